/** The errors of compressed streams. */
import { LamellaError } from "../errors/lamella-error.ts";

/** A compressed stream is damaged (`COMPRESSION_CORRUPT`), or stops early (`COMPRESSION_TRUNCATED`). */
export function corruptStream(format: string, what: string, cause?: unknown): LamellaError {
  return new LamellaError("data_loss", "COMPRESSION_CORRUPT", `${format} stream: ${what}`, { cause });
}

export function truncatedStream(format: string): LamellaError {
  return new LamellaError("data_loss", "COMPRESSION_TRUNCATED", `${format} stream: it ends too early`);
}

/** A zstd frame asks for more memory than is allowed. */
export function zstdWindowError(maxWindowBytes: number, windowBytes?: number): LamellaError {
  const asked = windowBytes === undefined ? "a larger window" : `a window of ${windowBytes} bytes`;
  return new LamellaError(
    "resource_exhausted",
    "ZSTD_WINDOW",
    `zstd stream: a frame needs ${asked}; the limit is ${maxWindowBytes} bytes`,
    { hint: "compress the layer again without --long or --ultra" },
  );
}
