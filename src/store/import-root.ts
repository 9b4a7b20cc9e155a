/** Makes an image of a root file system: a directory of the host, or a tar of one. */
import type { RunConfig } from "../oci/config.ts";
import type { Platform } from "../oci/platform.ts";

export type ImportSource =
  | { readonly kind: "directory"; readonly path: string }
  /** A tar, plain or compressed with gzip or zstd: a file, or a stream of bytes. */
  | { readonly kind: "tar"; readonly file: string }
  | { readonly kind: "tar"; readonly stream: AsyncIterable<Uint8Array> };

export interface ImportOptions {
  readonly tags?: readonly string[] | undefined;
  readonly run?: RunConfig | undefined;
  /** Default: the host's. */
  readonly platform?: Platform | undefined;
  readonly comment?: string | undefined;
  readonly author?: string | undefined;
  /** RFC 3339; default now. */
  readonly createdAt?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of tar bytes read so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}
