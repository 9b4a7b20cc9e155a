/** Writes images to archives and layouts. */
import type { LayerCompression } from "../oci/media-types.ts";

export type SaveFormat = "docker-archive" | "oci-archive" | "oci-layout";

/** A file or directory that appears under its name only when it is complete, or a sink of bytes (archives only). */
export type SaveTarget = { readonly path: string } | { readonly write: (chunk: Uint8Array) => Promise<void> };

export interface SaveOptions {
  /** Default docker-archive. */
  readonly format?: SaveFormat | undefined;
  /** How layers are stored in the OCI formats; default gzip. A docker-archive has them plain. */
  readonly compression?: LayerCompression | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called as bytes of layers are written. */
  readonly onProgress?:
    | ((progress: { readonly diffId: string; readonly bytes: number; readonly totalBytes: number }) => void)
    | undefined;
}
