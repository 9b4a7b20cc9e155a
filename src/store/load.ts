/** Loads images from archives and layouts. */
import type { Digest } from "../oci/digest.ts";
import type { Platform } from "../oci/platform.ts";

/** A file (plain or compressed), a stream of one, or the directory of an OCI layout. */
export type LoadSource = { readonly path: string } | { readonly stream: AsyncIterable<Uint8Array> };

export interface LoadProgress {
  /** Digest of the layer. */
  readonly diffId: string;
  readonly event: "started" | "bytes" | "done" | "exists";
  /** Tar bytes read so far. */
  readonly bytes: number;
  readonly totalBytes: number | undefined;
}

export interface LoadOptions {
  /** Which image of a multi-platform index; default the host's platform. */
  readonly platform?: Platform | undefined;
  /** Tags to use in place of those in the archive; only for an archive of one image. */
  readonly tags?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

export interface LoadedImage {
  readonly id: Digest;
  readonly tags: readonly string[];
}
