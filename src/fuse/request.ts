/**
 * The request that a session is at. One object and one buffer serve all of them: fields are read where they lie, and only
 * names become values of their own.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { Caller } from "./file-system.ts";
import { IN_HEADER } from "./protocol.ts";

const HIGH = 4294967296;

export class Request implements Caller {
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  /** Of the request in the buffer, in bytes. */
  length = 0;

  /** `sizeBytes`: of the longest request. */
  constructor(sizeBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(sizeBytes);
    this.#words = new Uint32Array(this.#bytes.buffer, this.#bytes.byteOffset, sizeBytes >>> 2);
  }

  /** Where the session reads requests to. */
  get buffer(): Buffer {
    return this.#bytes;
  }

  get opcode(): number {
    return this.#words[1] as number;
  }

  get uniqueLow(): number {
    return this.#words[2] as number;
  }

  get uniqueHigh(): number {
    return this.#words[3] as number;
  }

  get node(): number {
    return (this.#words[4] as number) + (this.#words[5] as number) * HIGH;
  }

  get uid(): number {
    return this.#words[6] as number;
  }

  get gid(): number {
    return this.#words[7] as number;
  }

  /** The thread that asks; 0 where it is the kernel, or of another PID namespace. */
  get pid(): number {
    return this.#words[8] as number;
  }

  /** A field of the opcode's structure, by its offset there. */
  u32(at: number): number {
    return this.#words[(IN_HEADER + at) >>> 2] as number;
  }

  /** Exact up to 2^53. */
  u64(at: number): number {
    return this.u32(at) + this.u32(at + 4) * HIGH;
  }

  /** As `u64`, of a signed field. */
  i64(at: number): number {
    return this.u32(at) + (this.u32(at + 4) | 0) * HIGH;
  }

  /** The name that begins `at` bytes after the header and ends before a NUL. */
  name(at: number): ByteString {
    const start = IN_HEADER + at;
    const end = this.#bytes.indexOf(0, start);
    return this.#bytes.toString("latin1", start, end < 0 || end > this.length ? this.length : end);
  }

  /** Bytes of the request, in place. */
  data(at: number, length: number): Buffer {
    return this.#bytes.subarray(IN_HEADER + at, IN_HEADER + at + length);
  }
}
