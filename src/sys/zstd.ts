/**
 * The system's libzstd as a ZstdCodec: `ZSTD_decompressStream` and `ZSTD_compressStream2`, each call on one of libuv's
 * threads, so that streams run beside each other and beside the JavaScript. `libzstd.so.1` keeps its binary interface
 * since 1.0; the advanced functions used here are stable since 1.4.
 *
 * A stream's C structures live in one buffer:
 *
 * ```
 *  0 ZSTD_inBuffer  { const void *src; size_t size; size_t pos }
 * 24 ZSTD_outBuffer { void *dst; size_t size; size_t pos }
 * ```
 */
import { createRequire } from "node:module";
import { LamellaError } from "../errors/lamella-error.ts";
import { corruptStream, truncatedStream, zstdWindowError } from "../tar/compression-error.ts";
import type { ZstdCodec, ZstdStream } from "../tar/zstd-codec.ts";

const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");

// From zstd.h and zstd_errors.h.
const ZSTD_c_compressionLevel = 100;
const ZSTD_c_checksumFlag = 201;
const ZSTD_d_windowLogMax = 100;
const ZSTD_e_continue = 0;
const ZSTD_e_end = 2;
const ZSTD_error_prefix_unknown = 10;
const ZSTD_error_frameParameter_windowTooLarge = 16;

/** Output comes in pieces of this size; larger ones spare calls, smaller ones memory. */
const outputBytes = 256 * 1024;
/** Steps that move less than this are small. */
const smallBytes = 4096;
const noBytes = Buffer.alloc(0);

type Context = unknown;
/** What a call returns: a size or hint or, told by `isError`, an error, which is a number near 2^64. */
type Result = number | bigint;
/** One call on a stream, on one of libuv's threads or at once. */
interface Step {
  readonly inThread: (context: Context, buffers: Buffer, isEnd: boolean) => Promise<Result>;
  readonly now: (context: Context, buffers: Buffer, isEnd: boolean) => Result;
}

interface Library {
  readonly version: string;
  readonly isError: (result: Result) => number;
  readonly errorCode: (result: Result) => number;
  readonly errorName: (result: Result) => string;
  readonly createDCtx: () => Context;
  readonly freeDCtx: (context: Context) => number;
  readonly setDParameter: (context: Context, parameter: number, value: number) => number;
  readonly decompressStep: Step;
  readonly createCCtx: () => Context;
  readonly freeCCtx: (context: Context) => number;
  readonly setCParameter: (context: Context, parameter: number, value: number) => number;
  readonly compressStep: Step;
}

let loaded: ZstdCodec | undefined;
let isTried = false;

/** The codec over the system's libzstd, or undefined when the host has none. */
export function systemZstd(): ZstdCodec | undefined {
  if (!isTried) {
    isTried = true;
    const library = loadLibrary();
    if (library !== undefined) loaded = codecOver(library);
  }
  return loaded;
}

function loadLibrary(): Library | undefined {
  let zstd: ReturnType<typeof koffi.load>;
  try {
    zstd = koffi.load("libzstd.so.1");
  } catch {
    return undefined;
  }
  const call = <T>(prototype: string): T => zstd.func(prototype) as unknown as T;
  const decompressStream = zstd.func("size_t ZSTD_decompressStream(void *ctx, uint8_t *out, uint8_t *in)");
  const compressStream2 = zstd.func("size_t ZSTD_compressStream2(void *ctx, uint8_t *out, uint8_t *in, int end)");
  return {
    version: call<() => string>("const char *ZSTD_versionString()")(),
    isError: call("unsigned int ZSTD_isError(size_t result)"),
    errorCode: call("int ZSTD_getErrorCode(size_t result)"),
    errorName: call("const char *ZSTD_getErrorName(size_t result)"),
    createDCtx: call("void *ZSTD_createDCtx()"),
    freeDCtx: call("size_t ZSTD_freeDCtx(void *ctx)"),
    setDParameter: call("size_t ZSTD_DCtx_setParameter(void *ctx, int parameter, int value)"),
    decompressStep: {
      now: (context, buffers) => decompressStream(context, buffers.subarray(24), buffers),
      inThread: (context, buffers) =>
        new Promise((resolve, reject) => {
          decompressStream.async(context, buffers.subarray(24), buffers, settle(resolve, reject));
        }),
    },
    createCCtx: call("void *ZSTD_createCCtx()"),
    freeCCtx: call("size_t ZSTD_freeCCtx(void *ctx)"),
    setCParameter: call("size_t ZSTD_CCtx_setParameter(void *ctx, int parameter, int value)"),
    compressStep: {
      now: (context, buffers, isEnd) => compressStream2(context, buffers.subarray(24), buffers, directiveOf(isEnd)),
      inThread: (context, buffers, isEnd) =>
        new Promise((resolve, reject) => {
          const settled = settle(resolve, reject);
          compressStream2.async(context, buffers.subarray(24), buffers, directiveOf(isEnd), settled);
        }),
    },
  };
}

function directiveOf(isEnd: boolean): number {
  return isEnd ? ZSTD_e_end : ZSTD_e_continue;
}

function settle(resolve: (result: Result) => void, reject: (error: unknown) => void) {
  return (error: unknown, result: Result): void => {
    if (error) reject(error);
    else resolve(result);
  };
}

function codecOver(library: Library): ZstdCodec {
  return {
    name: `libzstd ${library.version}`,
    decompressor({ maxWindowBytes }) {
      const context = library.createDCtx();
      const windowLog = Math.min(31, Math.max(10, Math.floor(Math.log2(maxWindowBytes))));
      library.setDParameter(context, ZSTD_d_windowLogMax, windowLog);
      return new SystemStream({
        step: library.decompressStep,
        free: library.freeDCtx,
        context,
        isDecoder: true,
        fail: (result) => decodeError(library, result, maxWindowBytes),
        isError: library.isError,
      });
    },
    compressor({ level }) {
      const context = library.createCCtx();
      library.setCParameter(context, ZSTD_c_compressionLevel, level);
      library.setCParameter(context, ZSTD_c_checksumFlag, 1);
      return new SystemStream({
        step: library.compressStep,
        free: library.freeCCtx,
        context,
        isDecoder: false,
        fail: (result) => new LamellaError("internal", "ZSTD_FAILED", `libzstd: ${library.errorName(result)}`),
        isError: library.isError,
      });
    },
  };
}

function decodeError(library: Library, result: Result, maxWindowBytes: number): LamellaError {
  switch (library.errorCode(result)) {
    case ZSTD_error_frameParameter_windowTooLarge:
      return zstdWindowError(maxWindowBytes);
    case ZSTD_error_prefix_unknown:
      return corruptStream("zstd", "no frame where one should start");
    default:
      return corruptStream("zstd", library.errorName(result));
  }
}

interface SystemStreamOptions {
  readonly step: Step;
  readonly free: (context: Context) => number;
  readonly context: Context;
  readonly isDecoder: boolean;
  readonly isError: (result: Result) => number;
  readonly fail: (result: Result) => LamellaError;
}

class SystemStream implements ZstdStream {
  readonly #options: SystemStreamOptions;
  readonly #buffers = Buffer.alloc(48);
  /** The last step's result: 0 when a decoder stands between frames, or an encoder has brought out all of its own. */
  #last = 0;
  #isFreed = false;
  #isStepping = false;

  constructor(options: SystemStreamOptions) {
    this.#options = options;
  }

  push(chunk: Uint8Array): AsyncIterable<Uint8Array> {
    return this.#run(chunk, false);
  }

  async *end(): AsyncGenerator<Uint8Array> {
    if (!this.#options.isDecoder) yield* this.#run(new Uint8Array(0), true);
    else if (this.#last !== 0) throw truncatedStream("zstd");
  }

  [Symbol.dispose](): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    if (!this.#isStepping) this.#options.free(this.#options.context);
  }

  /** Steps until the input is used up and, as far as the call asks for it, no output waits inside the library. */
  async *#run(chunk: Uint8Array, isEnd: boolean): AsyncGenerator<Uint8Array> {
    const { isDecoder, isError, fail } = this.#options;
    let output = noBytes;
    let made = 0;
    let taken = 0;
    let isPending = chunk.length > 0 || isEnd;
    // A thread per step is waste for the tiny frames of which a stream may have thousands: after a small step, the next
    // runs here and now. However it turns out, a step makes at most one output buffer.
    let isSmall = false;
    while (isPending) {
      if (made === output.length) {
        output = Buffer.allocUnsafeSlow(outputBytes);
        made = 0;
      }
      this.#point({ chunk, taken, output, made });
      const result = await this.#step(isEnd, isSmall);
      if (isError(result)) throw fail(result);
      const nowTaken = Number(this.#buffers.readBigUInt64LE(16));
      const nowMade = Number(this.#buffers.readBigUInt64LE(40));
      isSmall = nowTaken - taken < smallBytes && nowMade - made < smallBytes;
      taken = nowTaken;
      made = nowMade;
      this.#last = Number(result);
      // A decoder that filled the output may hold more, unless it says that the frame is complete; an encoder keeps what
      // does not fit for the next call, until the end has to bring it all.
      const holdsMore = isDecoder ? made === outputBytes && this.#last !== 0 : isEnd && this.#last !== 0;
      isPending = taken < chunk.length || holdsMore;
      if (made === outputBytes || (!isPending && made > 0)) yield output.subarray(0, made);
    }
  }

  /** Points the C structures at the bytes to read and to fill. */
  #point(at: { chunk: Uint8Array; taken: number; output: Buffer; made: number }): void {
    const buffers = this.#buffers;
    buffers.writeBigUInt64LE(at.chunk.length === 0 ? 0n : koffi.address(at.chunk), 0);
    buffers.writeBigUInt64LE(BigInt(at.chunk.length), 8);
    buffers.writeBigUInt64LE(BigInt(at.taken), 16);
    buffers.writeBigUInt64LE(koffi.address(at.output), 24);
    buffers.writeBigUInt64LE(BigInt(at.output.length), 32);
    buffers.writeBigUInt64LE(BigInt(at.made), 40);
  }

  async #step(isEnd: boolean, isSmall: boolean): Promise<Result> {
    if (this.#isFreed) throw new LamellaError("internal", "ZSTD_FAILED", "the zstd stream has been closed");
    const { step, context, free } = this.#options;
    if (isSmall) return step.now(context, this.#buffers, isEnd);
    this.#isStepping = true;
    try {
      return await step.inThread(context, this.#buffers, isEnd);
    } finally {
      this.#isStepping = false;
      // Disposed meanwhile: the library was still at work, so freeing was left to this place.
      if (this.#isFreed) free(context);
    }
  }
}
