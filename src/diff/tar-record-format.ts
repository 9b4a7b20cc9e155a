/**
 * The bytes of a tar record (docs/formats/tar-record.md): how operations are laid out in frames, and frames in a file.
 * Both sides are here, so that they cannot drift apart: {@link TarRecordEncoder} fills frames with operations,
 * {@link decodeOperations} reads them back. Nothing here touches a file.
 *
 * ```
 * record     magic "LAMREC1\0", frame…, trailer
 * frame      kind u8, method u8 (0 stored, 1 raw deflate), 0 u16, stored length u32, length u32, bytes      little endian
 * trailer    offset of the first frame that is not operations u64, tar size u64, "LAMREND\0"
 * operation  code u8, arguments as LEB128 numbers; a path is (bytes shared with the path before, bytes that follow)
 *   0 raw      length, bytes
 *   1 zeros    length
 *   2 file     path, size
 *   3 sparse   path, real size          begins a file of which only slices follow
 *   4 slice    offset, length           of the sparse file begun last
 * ```
 */
import { LamellaError } from "../errors/lamella-error.ts";
import type { ByteString } from "../lib/bytes.ts";

export const recordMagic = Buffer.from("LAMREC1\0", "latin1");
export const trailerMagic = Buffer.from("LAMREND\0", "latin1");
export const frameHeaderBytes = 12;
export const trailerBytes = 24;

/** What a frame holds. */
export const frameKind = { operations: 1, moves: 2, marks: 3 } as const;
export type FrameKind = (typeof frameKind)[keyof typeof frameKind];

/** Bytes of operations in one frame, at most; a path of the longest kind fits several times. */
export const frameBytes = 256 * 1024;

/** The digest so far is noted each time this many bytes of the tar have passed. */
export const markIntervalBytes = 128 * 1024;
/** Bytes of a noted digest. */
export const markBytes = 8;

const opRaw = 0;
const opZeros = 1;
const opFile = 2;
const opSparse = 3;
const opSlice = 4;

/** The longest path a record can hold. */
const maxPathBytes = 65_536;
/** Zeros are searched for in pieces of this size; shorter runs are left to the compressor. */
const zeroPiece = 4096;
const zeros = Buffer.alloc(zeroPiece);

/** Takes full frames and gives back memory for the next one; both may be views of shared memory. */
export interface FrameSink {
  /** Memory of {@link frameBytes} for the next frame. */
  begin(): Buffer;
  /** The memory of the last `begin` holds `length` bytes of operations. */
  finish(length: number): void;
}

/** Turns a tar, told piece by piece, into operations. Memory: one frame. */
export class TarRecordEncoder {
  readonly #sink: FrameSink;
  #frame: Buffer;
  #at = 0;
  #zeros = 0;
  #path: ByteString = "";

  constructor(sink: FrameSink) {
    this.#sink = sink;
    this.#frame = sink.begin();
  }

  /** Bytes that the record itself must keep: headers, padding, content no file holds. */
  raw(bytes: Uint8Array): void {
    if (bytes.length < zeroPiece) {
      this.#literal(bytes, 0, bytes.length);
      return;
    }
    let start = 0;
    let at = 0;
    for (; at + zeroPiece <= bytes.length; at += zeroPiece) {
      if (zeros.compare(bytes, at, at + zeroPiece) !== 0) continue;
      this.#literal(bytes, start, at);
      this.#zeros += zeroPiece;
      start = at + zeroPiece;
    }
    this.#literal(bytes, start, bytes.length);
  }

  /** The next `sizeBytes` bytes are the whole content of the file at `path`. */
  file(path: ByteString, sizeBytes: number): void {
    this.#begin(opFile, path);
    this.#number(sizeBytes);
  }

  /** The bytes that follow are parts of the file at `path`, which is `realSizeBytes` long; `slice` names each. */
  sparse(path: ByteString, realSizeBytes: number): void {
    this.#begin(opSparse, path);
    this.#number(realSizeBytes);
  }

  /** The next `length` bytes lie at `offset` of the file begun with `sparse`. */
  slice(offset: number, length: number): void {
    this.#room(32);
    this.#frame[this.#at++] = opSlice;
    this.#number(offset);
    this.#number(length);
  }

  /** Hands the last frame to the sink. */
  end(): void {
    this.#flushZeros();
    if (this.#at > 0) this.#sink.finish(this.#at);
    this.#at = 0;
  }

  #literal(bytes: Uint8Array, from: number, to: number): void {
    if (from === to) return;
    this.#flushZeros();
    for (let start = from; start < to; ) {
      this.#room(16);
      const length = Math.min(to - start, frameBytes - this.#at - 10);
      this.#frame[this.#at++] = opRaw;
      this.#number(length);
      this.#frame.set(start === 0 && length === bytes.length ? bytes : bytes.subarray(start, start + length), this.#at);
      this.#at += length;
      start += length;
    }
  }

  #begin(op: number, path: ByteString): void {
    if (path.length > maxPathBytes)
      throw new LamellaError("invalid_argument", "ENAMETOOLONG", `a path of ${path.length} bytes in a tar record`);
    this.#flushZeros();
    this.#room(path.length + 48);
    const most = Math.min(path.length, this.#path.length);
    let shared = 0;
    while (shared < most && path.charCodeAt(shared) === this.#path.charCodeAt(shared)) shared++;
    this.#path = path;
    this.#frame[this.#at++] = op;
    this.#number(shared);
    this.#number(path.length - shared);
    this.#at += this.#frame.write(shared === 0 ? path : path.slice(shared), this.#at, "latin1");
  }

  #flushZeros(): void {
    if (this.#zeros === 0) return;
    this.#room(16);
    this.#frame[this.#at++] = opZeros;
    this.#number(this.#zeros);
    this.#zeros = 0;
  }

  #number(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#frame[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#frame[this.#at++] = rest;
  }

  /** Starts a new frame when fewer than `bytes` are free in this one. */
  #room(bytes: number): void {
    if (frameBytes - this.#at >= bytes) return;
    this.#sink.finish(this.#at);
    this.#frame = this.#sink.begin();
    this.#at = 0;
  }
}

/** Where {@link decodeOperations} delivers what it reads. */
export interface OperationHandler {
  /** The view is valid during the call only. */
  raw(bytes: Buffer): void;
  zeros(length: number): void;
  file(path: ByteString, sizeBytes: number): void;
  sparse(path: ByteString, realSizeBytes: number): void;
  slice(offset: number, length: number): void;
}

/** Reads the operations of frames in order; the path that the next one is told relative to lives on between calls. */
export class TarRecordDecoder {
  readonly #handler: OperationHandler;
  #path: ByteString = "";
  #frame: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(handler: OperationHandler) {
    this.#handler = handler;
  }

  /** Reads one frame. Errors: data_loss (RECORD_DAMAGED), and what the handler throws. */
  frame(bytes: Buffer): void {
    this.#frame = bytes;
    this.#at = 0;
    while (this.#at < bytes.length) this.#operation(bytes[this.#at++] as number);
  }

  #operation(op: number): void {
    switch (op) {
      case opRaw: {
        const length = this.#number();
        this.#handler.raw(this.#bytes(length));
        return;
      }
      case opZeros:
        this.#handler.zeros(this.#number());
        return;
      case opFile: {
        const path = this.#readPath();
        this.#handler.file(path, this.#number());
        return;
      }
      case opSparse: {
        const path = this.#readPath();
        this.#handler.sparse(path, this.#number());
        return;
      }
      case opSlice: {
        const offset = this.#number();
        this.#handler.slice(offset, this.#number());
        return;
      }
      default:
        throw damagedRecord(`unknown operation ${op}`);
    }
  }

  #readPath(): ByteString {
    const shared = this.#number();
    const rest = this.#bytes(this.#number());
    if (shared > this.#path.length) throw damagedRecord("a path that continues nothing");
    this.#path = this.#path.slice(0, shared) + rest.toString("latin1");
    return this.#path;
  }

  #bytes(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#frame.length) throw damagedRecord("an operation reaches past its frame");
    const bytes = this.#frame.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  #number(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#frame[this.#at++];
      if (byte === undefined || scale > 2 ** 49) throw damagedRecord("a number without an end");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    if (!Number.isSafeInteger(value)) throw damagedRecord("a number beyond 2^53");
    return value;
  }
}

/** A file whose content lies in the spill directory: it was replaced by a later entry of the same layer. */
export interface Move {
  /** Counts the record's files and sparse files from 0. */
  readonly payload: number;
  /** Name of the file in the spill directory, as a number. */
  readonly spill: number;
}

/** The bytes of a table of moves: pairs of u32, sorted by payload. */
export function encodeMoves(moves: readonly Move[]): Buffer {
  const sorted = [...moves].sort((a, b) => a.payload - b.payload);
  const bytes = Buffer.allocUnsafe(sorted.length * 8);
  sorted.forEach(({ payload, spill }, i) => {
    bytes.writeUInt32LE(payload, i * 8);
    bytes.writeUInt32LE(spill, i * 8 + 4);
  });
  return bytes;
}

/** Adds a table to a map from payload to spill. */
export function decodeMoves(bytes: Buffer, moves: Map<number, number>): void {
  if (bytes.length % 8 !== 0) throw damagedRecord("a table of moves that is cut short");
  for (let at = 0; at < bytes.length; at += 8) moves.set(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
}

/** The error for a record that cannot have been written by a {@link TarRecordEncoder}. */
export function damagedRecord(what: string, cause?: unknown): LamellaError {
  return new LamellaError("data_loss", "RECORD_DAMAGED", `damaged tar record: ${what}`, {
    hint: "the layer's exact tar cannot be made again; import or load the image again",
    cause,
  });
}
