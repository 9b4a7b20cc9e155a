/**
 * Compressed streams: gzip, zstd, or neither, told apart by their first bytes. Names and media types are hints that
 * images get wrong; the bytes decide. Everything is incremental, so memory is bounded whatever the stream expands to.
 */
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { gunzip, gzip } from "./gzip.ts";
import type { ZstdCodec, ZstdStream } from "./zstd-codec.ts";
import { pureZstd } from "./zstd-pure.ts";

/** The compressions of layers. */
export type Compression = "none" | "gzip" | "zstd";

/** What a stream's first bytes may say; the last two are recognised to be refused by name. */
export type DetectedCompression = Compression | "bzip2" | "xz";

/** How many first bytes {@link detectCompression} wants to see. */
export const detectionBytes = 10;

const bzip2Block = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];

/** Tells a compression by the magic at the start of `head`; anything unknown is `none`. */
export function detectCompression(head: Uint8Array): DetectedCompression {
  const [a, b, c, d] = head;
  if (a === 0x1f && b === 0x8b && c === 0x08) return "gzip";
  if (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd) return "zstd";
  if (a !== undefined && a >> 4 === 5 && b === 0x2a && c === 0x4d && d === 0x18) return "zstd"; // skippable frame
  if (a === 0x42 && b === 0x5a && c === 0x68 && bzip2Block.every((byte, i) => head[4 + i] === byte)) return "bzip2";
  if (a === 0xfd && b === 0x37 && c === 0x7a && d === 0x58 && head[4] === 0x5a && head[5] === 0) return "xz";
  return "none";
}

export interface DecompressOptions {
  readonly signal?: AbortSignal | undefined;
  /** Refuse (`COMPRESSION_MISMATCH`) a stream that turns out to be something else, e.g. than its media type says. */
  readonly expected?: Compression | undefined;
  /** The codec for zstd; without one a slower one in JavaScript is used. */
  readonly zstd?: ZstdCodec | undefined;
  readonly limits?: DecompressLimits | undefined;
}

export interface DecompressLimits {
  /** Most bytes that may come out. Default: no limit. */
  readonly outputBytes?: number | undefined;
  /** Largest window a zstd frame may ask for, which is the memory it costs. Default 128 MiB, as the zstd tool's. */
  readonly zstdWindowBytes?: number | undefined;
}

/**
 * What `source` holds once decompressed: all gzip members, all zstd frames, or the bytes as they are. Throws `data_loss`
 * for damaged and truncated streams and for garbage after the end, `unimplemented` for bzip2 and xz,
 * `resource_exhausted` beyond the limits.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  options: DecompressOptions = {},
): AsyncGenerator<Uint8Array> {
  const { format, whole } = await peek(source);
  let isHandedOn = false;
  try {
    const readable = checkFormat(format, options.expected);
    isHandedOn = true;
    yield* limited(decoded(readable, whole, options), options.limits?.outputBytes);
  } finally {
    if (!isHandedOn) await whole.return(undefined);
  }
}

function decoded(
  format: Compression,
  source: AsyncIterable<Uint8Array>,
  options: DecompressOptions,
): AsyncIterable<Uint8Array> {
  switch (format) {
    case "none":
      return plain(source, options.signal);
    case "gzip":
      return gunzip(source, options.signal);
    case "zstd": {
      const maxWindowBytes = options.limits?.zstdWindowBytes ?? 128 * 1024 * 1024;
      const codec = options.zstd ?? pureZstd;
      return throughZstd(source, () => codec.decompressor({ maxWindowBytes }), options.signal);
    }
  }
}

function checkFormat(format: DetectedCompression, expected: Compression | undefined): Compression {
  if (expected !== undefined && format !== expected)
    throw new LamellaError(
      "invalid_argument",
      "COMPRESSION_MISMATCH",
      `the stream should be ${named(expected)} but is ${named(format)}`,
    );
  if (format === "bzip2" || format === "xz")
    throw new LamellaError("unimplemented", "COMPRESSION_UNSUPPORTED", `the stream is compressed with ${format}`, {
      hint: `decompress it first (${format === "xz" ? "xz -d" : "bzip2 -d"}); gzip, zstd and no compression are supported`,
    });
  return format;
}

function named(format: DetectedCompression): string {
  return format === "none" ? "uncompressed" : `compressed with ${format}`;
}

export interface CompressOptions {
  readonly signal?: AbortSignal | undefined;
  /** gzip: 0 to 9, default 6. zstd: 1 to 19, default 3. */
  readonly level?: number | undefined;
  /** The codec for zstd; required for it. */
  readonly zstd?: ZstdCodec | undefined;
}

/**
 * `source` compressed. The same bytes, options and codec version give the same output: no names, no times. Throws
 * `unimplemented` for zstd without a codec that compresses.
 */
export function compress(
  source: AsyncIterable<Uint8Array>,
  format: Compression,
  options: CompressOptions = {},
): AsyncIterable<Uint8Array> {
  switch (format) {
    case "none":
      return plain(source, options.signal);
    case "gzip":
      return gzip(source, { level: options.level, signal: options.signal });
    case "zstd": {
      const { zstd, level = 3 } = options;
      if (zstd?.compressor === undefined)
        throw new LamellaError("unimplemented", "ZSTD_UNAVAILABLE", "this host cannot compress with zstd", {
          hint: "install the system's libzstd (Debian: libzstd1), or use gzip",
        });
      const open = zstd.compressor.bind(zstd, { level });
      return throughZstd(source, open, options.signal);
    }
  }
}

/** Reads enough to tell the format, and gives the stream back whole. */
async function peek(
  source: AsyncIterable<Uint8Array>,
): Promise<{ format: DetectedCompression; whole: AsyncGenerator<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < detectionBytes) {
    const next = await iterator.next();
    if (next.done) break;
    first.push(next.value);
    length += next.value.length;
  }
  const whole = rejoined(first, iterator);
  // A generator that has not started does not run its clean-up; the empty chunk starts it.
  await whole.next();
  return { format: detectCompression(Buffer.concat(first, Math.min(length, detectionBytes))), whole };
}

async function* rejoined(first: Uint8Array[], rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let isDone = false;
  try {
    yield new Uint8Array(0);
    yield* first;
    for (;;) {
      const next = await rest.next();
      if (next.done) break;
      yield next.value;
    }
    isDone = true;
  } finally {
    if (!isDone) await rest.return?.();
  }
}

async function* plain(source: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    throwIfAborted(signal);
    yield chunk;
  }
}

async function* throughZstd(
  source: AsyncIterable<Uint8Array>,
  open: () => ZstdStream,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  using codec = open();
  for await (const chunk of source) {
    throwIfAborted(signal);
    yield* codec.push(chunk);
  }
  yield* codec.end();
}

async function* limited(
  source: AsyncIterable<Uint8Array>,
  outputBytes: number | undefined,
): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const chunk of source) {
    length += chunk.length;
    if (outputBytes !== undefined && length > outputBytes)
      throw new LamellaError(
        "resource_exhausted",
        "DECOMPRESSED_TOO_LARGE",
        `the stream holds more than ${outputBytes} bytes once decompressed`,
      );
    yield chunk;
  }
}
