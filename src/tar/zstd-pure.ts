/**
 * Decodes zstd without the system's library: frames are found and checked here, their blocks are decoded by `fzstd`.
 * Walking the frames ourselves bounds the memory before any is taken, slices a stream of many frames without recursion, and
 * tells garbage from the end. Content checksums are not verified: layers are verified by their digests.
 *
 * ```
 * frame: magic 28 b5 2f fd · descriptor · [window] · [dictionary id] · [content size] · blocks · [checksum 4]
 * block: 3 bytes, little endian: last (1 bit) · type (2: raw, RLE, compressed) · size (21) · then size bytes (RLE: one)
 * skippable frame: magic 5x 2a 4d 18 · size 4 · size bytes
 * ```
 *
 * Source: RFC 8878, section 3.1.
 */
import { Decompress } from "fzstd";
import { corruptStream, truncatedStream, zstdWindowError } from "./compression-error.ts";
import type { ZstdCodec, ZstdStream } from "./zstd-codec.ts";

/** The decoder for hosts without libzstd; about 100 MB/s. It cannot compress. */
export const pureZstd: ZstdCodec = {
  name: "fzstd",
  decompressor: ({ maxWindowBytes }) => new PureDecompressor(maxWindowBytes),
};

const magicBytes = 4;
const maxBlockBytes = 128 * 1024;

type Part = "magic" | "descriptor" | "block-header" | "block" | "checksum" | "skip-size" | "skip";

class PureDecompressor implements ZstdStream {
  readonly #maxWindowBytes: number;
  #part: Part = "magic";
  /** Bytes of the current part still to come. */
  #left = magicBytes;
  /** The current part's bytes, for parts that must be complete to be understood. */
  #head: number[] = [];
  #isLastBlock = false;
  #hasChecksum = false;
  #decoder: Decompress | undefined;
  #output: Uint8Array[] = [];

  constructor(maxWindowBytes: number) {
    this.#maxWindowBytes = maxWindowBytes;
  }

  *push(chunk: Uint8Array): Iterable<Uint8Array> {
    let at = 0;
    while (at < chunk.length) {
      at = this.#take(chunk, at);
      if (this.#output.length > 0) {
        yield* this.#output;
        this.#output = [];
      }
    }
  }

  end(): Iterable<Uint8Array> {
    if (this.#part !== "magic" || this.#head.length > 0) throw truncatedStream("zstd");
    return [];
  }

  [Symbol.dispose](): void {
    this.#decoder = undefined;
    this.#output = [];
  }

  /** Reads on within the current part; returns where it stopped. */
  #take(chunk: Uint8Array, at: number): number {
    switch (this.#part) {
      case "block": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#decode(chunk.subarray(at, end), this.#left === 0 && this.#isLastBlock);
        if (this.#left === 0) this.#endBlock();
        return end;
      }
      case "skip":
      case "checksum": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#begin("magic", magicBytes);
        return end;
      }
      default:
        this.#head.push(chunk[at] as number);
        if (--this.#left === 0) this.#readHead();
        return at + 1;
    }
  }

  #begin(part: Part, length: number): void {
    this.#part = part;
    this.#left = length;
    this.#head = [];
  }

  #readHead(): void {
    const [a = 0, b = 0, c = 0, d = 0] = this.#head;
    switch (this.#part) {
      case "magic":
        if (b === 0x2a && c === 0x4d && d === 0x18 && a >> 4 === 5) this.#begin("skip-size", 4);
        else if (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd) this.#begin("descriptor", 1);
        else throw corruptStream("zstd", "no frame where one should start");
        return;
      case "skip-size": {
        const size = a + b * 0x100 + c * 0x10000 + d * 0x1000000;
        if (size === 0) this.#begin("magic", magicBytes);
        else this.#begin("skip", size);
        return;
      }
      case "descriptor":
        this.#readDescriptor(a);
        return;
      default: {
        const header = a | (b << 8) | (c << 16);
        const type = (header >> 1) & 3;
        const size = header >> 3;
        if (type === 3 || size > maxBlockBytes) throw corruptStream("zstd", "a block of an impossible kind or size");
        this.#isLastBlock = (header & 1) === 1;
        this.#decode(Uint8Array.from(this.#head), this.#isLastBlock && size === 0 && type !== 1);
        this.#begin("block", type === 1 ? 1 : size);
        if (this.#left === 0) this.#endBlock();
      }
    }
  }

  /** Reads the frame header; its length follows from its first byte, so it may take two rounds. */
  #readDescriptor(descriptor: number): void {
    const isSingleSegment = (descriptor & 0x20) !== 0;
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
    const sizeFlag = descriptor >> 6;
    const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeFlag;
    const windowBytes = isSingleSegment ? 0 : 1;
    const length = 1 + windowBytes + dictionaryBytes + sizeBytes;
    if (this.#head.length < length) {
      this.#left = length - this.#head.length;
      return;
    }
    if ((descriptor & 8) !== 0) throw corruptStream("zstd", "a frame with a reserved bit set");
    if (this.#head.slice(1 + windowBytes, 1 + windowBytes + dictionaryBytes).some((byte) => byte !== 0))
      throw corruptStream("zstd", "a frame that needs a dictionary");
    const window = isSingleSegment
      ? this.#head.slice(length - sizeBytes).reduceRight((value, byte) => value * 256 + byte, 0) +
        (sizeFlag === 1 ? 256 : 0)
      : 2 ** (10 + ((this.#head[1] as number) >> 3)) * (1 + ((this.#head[1] as number) & 7) / 8);
    if (window > this.#maxWindowBytes) throw zstdWindowError(this.#maxWindowBytes, window);
    this.#hasChecksum = (descriptor & 4) !== 0;
    this.#decoder = new Decompress((output) => {
      if (output.length > 0) this.#output.push(output);
    });
    // Without the checksum's bit: fzstd never sees the checksum, and must take the last block for the end.
    this.#decode(Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, descriptor & ~4, ...this.#head.slice(1)]), false);
    this.#begin("block-header", 3);
  }

  #endBlock(): void {
    if (!this.#isLastBlock) {
      this.#begin("block-header", 3);
      return;
    }
    this.#decoder = undefined;
    if (this.#hasChecksum) this.#begin("checksum", 4);
    else this.#begin("magic", magicBytes);
  }

  /** Passes bytes on. fzstd waits for 18 bytes, which small frames do not have, unless told that they are the last. */
  #decode(bytes: Uint8Array, isFinal: boolean): void {
    try {
      this.#decoder?.push(bytes, isFinal);
    } catch (error) {
      throw corruptStream("zstd", error instanceof Error ? error.message : String(error), error);
    }
  }
}
