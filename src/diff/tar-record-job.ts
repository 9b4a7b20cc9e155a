/** The job that makes a tar again from its record: synchronous, in a worker thread. See ./tar-record-read.ts. */
import { inflateRawSync } from "node:zlib";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type Piece, PieceBuffer, type PieceJob } from "../fs/pieces.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { ContentSource } from "./source.ts";
import {
  damagedRecord,
  decodeMoves,
  frameBytes,
  frameHeaderBytes,
  frameKind,
  markBytes,
  markIntervalBytes,
  type OperationHandler,
  recordMagic,
  TarRecordDecoder,
  trailerBytes,
  trailerMagic,
} from "./tar-record-format.ts";
import { DigestMarks } from "./tar-record-marks.ts";
import { lostContent, RecordContents } from "./tar-record-source.ts";

const EINTR = 4;

export interface TarSource {
  readonly recordPath: ByteString;
  readonly spillDir: ByteString;
  readonly content: ContentSource;
  /** Expected digest of the tar, 64 hexadecimal digits. */
  readonly sha256: string | undefined;
}

export interface ReadJob extends TarSource, PieceJob {}

/** Told before a piece of the tar that holds it: from byte `start` on the tar has the whole content of the file at `path`. */
export type FileNote = (path: ByteString, start: number, sizeBytes: number) => void;

/** Makes the tar and hands its pieces to `deliver`, verified; tells `note` of the files that the layer's tree has whole. */
export class TarMaker implements OperationHandler, Disposable {
  readonly #job: TarSource;
  readonly #note: FileNote;
  readonly #record: sys.OwnedFd;
  readonly #contents: RecordContents;
  readonly #moves = new Map<number, number>();
  readonly #marks: Buffer;
  readonly #tarSizeBytes: number;
  readonly #tables: number;
  readonly #digest = new DigestMarks();
  readonly #pieces: PieceBuffer;
  #payloads = 0;
  #sparse = -1;
  #sparsePath: ByteString = "";
  #made = 0;
  #verified = 0;
  /** Files whose content lies after the last note that was right. */
  #suspects: { readonly path: ByteString; readonly start: number }[] = [];

  constructor(job: TarSource, deliver: (piece: Piece) => void, note: FileNote = () => {}) {
    this.#job = job;
    this.#note = note;
    this.#pieces = new PieceBuffer((piece) => {
      this.#verify(piece);
      deliver(piece);
    });
    this.#record = sys.open(job.recordPath, C.O_RDONLY);
    try {
      const size = sys.fstat(this.#record.fd).size;
      if (size < recordMagic.length + trailerBytes) throw damagedRecord("it is incomplete");
      const trailer = this.#read(size - trailerBytes, trailerBytes);
      if (!trailer.subarray(16).equals(trailerMagic)) throw damagedRecord("it is incomplete");
      if (!this.#read(0, recordMagic.length).equals(recordMagic)) throw damagedRecord("it is not one");
      this.#tables = Number(trailer.readBigUInt64LE(0));
      this.#tarSizeBytes = Number(trailer.readBigUInt64LE(8));
      const marks: Buffer[] = [];
      for (const { kind, bytes } of this.#frames(this.#tables, size - trailerBytes)) {
        if (kind === frameKind.moves) decodeMoves(bytes, this.#moves);
        else if (kind === frameKind.marks) marks.push(bytes);
      }
      this.#marks = Buffer.concat(marks);
      this.#contents = new RecordContents(job.content, job.spillDir);
    } catch (error) {
      this.#record[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (this.#sparse >= 0) raw.close(this.#sparse);
    this.#sparse = -1;
    this.#contents[Symbol.dispose]();
    this.#record[Symbol.dispose]();
  }

  /** Makes all of it. Returns the number of bytes. Errors: data_loss, naming the file or the record; SyscallErrors. */
  make(): number {
    const decoder = new TarRecordDecoder(this);
    for (const { bytes } of this.#frames(recordMagic.length, this.#tables)) decoder.frame(bytes);
    this.#pieces.flush();
    const { sha256, bytes } = this.#digest.end();
    if (bytes !== this.#tarSizeBytes) throw damagedRecord(`${bytes} bytes of a tar of ${this.#tarSizeBytes}`);
    const expected = this.#job.sha256;
    if (expected !== undefined && sha256 !== expected) throw this.#mismatch();
    return bytes;
  }

  // ---- what the record says

  raw(bytes: Buffer): void {
    this.#made += bytes.length;
    this.#pieces.push(bytes);
  }

  zeros(length: number): void {
    for (let left = length; left > 0; ) {
      const into = this.#pieces.free.subarray(0, left);
      into.fill(0);
      left -= into.length;
      this.#advance(into.length);
    }
  }

  file(path: ByteString, sizeBytes: number): void {
    this.#suspect(path);
    const spill = this.#moves.get(this.#payloads++);
    const fd = this.#contents.open(path, sizeBytes, spill);
    if (spill === undefined) this.#note(path, this.#made, sizeBytes);
    try {
      this.#copy(fd, path, sizeBytes, undefined);
    } finally {
      raw.close(fd);
    }
  }

  sparse(path: ByteString, realSizeBytes: number): void {
    if (this.#sparse >= 0) raw.close(this.#sparse);
    this.#sparse = -1;
    this.#sparse = this.#contents.open(path, realSizeBytes, this.#moves.get(this.#payloads++));
    this.#sparsePath = path;
  }

  slice(offset: number, length: number): void {
    if (this.#sparse < 0) throw damagedRecord("a slice of no file");
    this.#suspect(this.#sparsePath);
    this.#copy(this.#sparse, this.#sparsePath, length, offset);
  }

  // ---- pieces

  /** Copies content straight into the pieces: from where the file stands, or from `offset`. */
  #copy(fd: number, path: ByteString, length: number, offset: number | undefined): void {
    for (let done = 0; done < length; ) {
      const into = this.#pieces.free.subarray(0, length - done);
      const n =
        offset === undefined ? raw.read(fd, into, into.length) : raw.pread64(fd, into, into.length, offset + done);
      if (n === -EINTR) continue;
      if (n < 0) throw new SyscallError("read", -n, textOfBytes(path));
      if (n === 0) throw lostContent(path, "became shorter while it was read");
      done += n;
      this.#advance(n);
    }
  }

  #advance(bytes: number): void {
    this.#made += bytes;
    this.#pieces.advance(bytes);
  }

  // ---- verification

  #suspect(path: ByteString): void {
    this.#suspects.push({ path, start: this.#made });
  }

  /** Hashes the piece and compares the notes taken when the record was written, so that no wrong stretch gets out. */
  #verify(piece: Uint8Array): void {
    const notes = this.#digest.update(piece);
    if (this.#marks.length === 0) {
      // Without notes any file may be the one; the last few hundred would tell no more than all.
      this.#suspects.length = 0;
      return;
    }
    for (; this.#verified < notes; this.#verified++) {
      const at = this.#verified * markBytes;
      if (!this.#digest.mark(this.#verified)?.equals(this.#marks.subarray(at, at + markBytes))) throw this.#mismatch();
    }
    const rightUpTo = this.#verified * markIntervalBytes;
    // The file that reaches over the end of what is right stays a suspect.
    let keep = this.#suspects.findIndex(({ start }) => start >= rightUpTo);
    if (keep === -1) keep = this.#suspects.length;
    this.#suspects.splice(0, Math.max(0, keep - 1));
  }

  /** Names the files that can be the reason: of those in the wrong stretch, the ones changed since the record was written. */
  #mismatch(): LamellaError {
    const from = this.#verified * markIntervalBytes;
    const to = this.#marks.length === 0 ? Number.POSITIVE_INFINITY : from + markIntervalBytes;
    const inStretch = this.#suspects.filter(({ start }, i) => {
      const next = this.#suspects[i + 1]?.start ?? Number.POSITIVE_INFINITY;
      return start < to && next > from;
    });
    const paths = this.#marks.length === 0 ? this.#allPaths() : new Set(inStretch.map(({ path }) => path));
    const { mtimeSec, mtimeNsec } = sys.fstat(this.#record.fd);
    const written = mtimeSec + mtimeNsec / 1e9;
    const changed = [...paths].filter((path) => (this.#contents.changedAt(path) ?? 0) > written);
    const named = changed.length > 0 ? changed : this.#marks.length === 0 ? [] : [...paths];
    const first = named[0];
    if (first === undefined)
      return new LamellaError("data_loss", "DIGEST_MISMATCH", "the layer's tar differs from what its digest says", {
        hint: "the layer's files or its record were changed; import or load the image again",
      });
    const others = named.slice(1, 5).map((path) => `/${textOfBytes(path)}`);
    const more = named.length > 5 ? ` and ${named.length - 5} more` : "";
    return lostContent(first, `has changed${others.length === 0 ? "" : `, or one of ${others.join(", ")}${more} has`}`);
  }

  #allPaths(): Set<ByteString> {
    const paths = new Set<ByteString>();
    const ignore = (): void => {};
    const decoder = new TarRecordDecoder({
      raw: ignore,
      zeros: ignore,
      slice: ignore,
      file: (path) => paths.add(path),
      sparse: (path) => paths.add(path),
    });
    for (const { bytes } of this.#frames(recordMagic.length, this.#tables)) decoder.frame(bytes);
    return paths;
  }

  // ---- the record

  *#frames(from: number, to: number): Generator<{ readonly kind: number; readonly bytes: Buffer }> {
    for (let at = from; at < to; ) {
      const header = this.#read(at, frameHeaderBytes);
      const stored = header.readUInt32LE(4);
      const length = header.readUInt32LE(8);
      at += frameHeaderBytes;
      if (stored > to - at) throw damagedRecord("a frame reaches past its end");
      const bytes = this.#read(at, stored);
      at += stored;
      yield { kind: header[0] as number, bytes: header[1] === 1 ? inflate(bytes, length) : bytes };
    }
  }

  #read(offset: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const n = sys.pread64(this.#record.fd, bytes.subarray(done), length - done, offset + done);
      if (n === 0) throw damagedRecord("it ends early");
      done += n;
    }
    return bytes;
  }
}

function inflate(bytes: Buffer, length: number): Buffer {
  try {
    // Tables may be longer than a frame of operations; what a record claims is bounded by what deflate can make of it.
    const whole = inflateRawSync(bytes, { maxOutputLength: Math.max(length, frameBytes) });
    if (whole.length === length) return whole;
  } catch (error) {
    throw damagedRecord("a frame cannot be decompressed", error);
  }
  throw damagedRecord("a frame has another length than it says");
}
