/**
 * Tar archives and their compression, as pure codecs: bytes in, events out; headers in, bytes out. Nothing here touches
 * a file.
 *
 * @example List an archive.
 * ```ts
 * const reader = new TarReader({ entry: (e) => names.push(e.name) });
 * for await (const chunk of stream) reader.push(chunk);
 * reader.end();
 * ```
 *
 * @module
 */

export {
  type Compression,
  type CompressOptions,
  compress,
  type DecompressLimits,
  type DecompressOptions,
  type DetectedCompression,
  decompress,
  detectCompression,
  detectionBytes,
} from "./compression.ts";
export type { SparseRegion, TarEntry, TarEntryType, TarHeader } from "./entry.ts";
export { type TarEnding, type TarHandler, TarReader, type TarReaderLimits } from "./reader.ts";
export { TarWriter } from "./writer.ts";
export type { ZstdCodec, ZstdStream } from "./zstd-codec.ts";
export { pureZstd } from "./zstd-pure.ts";
