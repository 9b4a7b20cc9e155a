/**
 * Tar records: what is needed to make the exact bytes of a layer tar again without a second copy of the files' contents.
 * A record holds headers, padding and order; contents are read from the layer. docs/formats/tar-record.md has the bytes.
 *
 * {@link TarRecordWriter} writes one in the calling thread; applying a layer splits the same work over two threads
 * (./apply-layer.ts); ./tar-record-read.ts makes the tar again. A record is not durable before the file system is synced,
 * and is recognised as incomplete when its trailer is missing.
 */
import { deflateRawSync } from "node:zlib";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import {
  type FrameKind,
  type FrameSink,
  frameBytes,
  frameHeaderBytes,
  frameKind,
  recordMagic,
  TarRecordEncoder,
  trailerBytes,
  trailerMagic,
} from "./tar-record-format.ts";

export { readLayerTar } from "./tar-record-read.ts";

/** Writes a record's frames to its file. Disposing without `close` leaves an incomplete record. */
export class TarRecordFile implements Disposable {
  readonly #file: sys.OwnedFd;
  #offset = 0;
  #tables: number | undefined;

  /** Creates or empties the file at `path`. */
  constructor(path: ByteString) {
    this.#file = sys.open(path, C.O_WRONLY | C.O_CREAT | C.O_TRUNC | C.O_NOFOLLOW, 0o600);
    this.#write(recordMagic);
  }

  /** Appends one frame, compressed where that helps. All operations come before all tables. */
  frame(kind: FrameKind, bytes: Uint8Array): void {
    if (kind !== frameKind.operations) this.#tables ??= this.#offset;
    const packed = deflateRawSync(bytes, { level: 1 });
    const isPacked = packed.length < bytes.length;
    const stored = isPacked ? packed : bytes;
    const header = Buffer.alloc(frameHeaderBytes);
    header[0] = kind;
    header[1] = isPacked ? 1 : 0;
    header.writeUInt32LE(stored.length, 4);
    header.writeUInt32LE(bytes.length, 8);
    this.#write(header);
    this.#write(stored);
  }

  /** Appends the trailer and closes the file. */
  close(tarSizeBytes: number): void {
    const trailer = Buffer.alloc(trailerBytes);
    trailer.writeBigUInt64LE(BigInt(this.#tables ?? this.#offset), 0);
    trailer.writeBigUInt64LE(BigInt(tarSizeBytes), 8);
    trailerMagic.copy(trailer, 16);
    this.#write(trailer);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #write(bytes: Uint8Array): void {
    sys.writeAll(this.#file.fd, bytes);
    this.#offset += bytes.length;
  }
}

/** Writes the record of a tar whose files' contents all lie in the layer. Synchronous. */
export class TarRecordWriter implements Disposable {
  readonly #file: TarRecordFile;
  readonly #encoder: TarRecordEncoder;
  #tarSizeBytes = 0;

  /** Creates or empties the file at `path`. */
  constructor(path: ByteString) {
    const file = new TarRecordFile(path);
    const frame = Buffer.allocUnsafeSlow(frameBytes);
    const sink: FrameSink = {
      begin: () => frame,
      finish: (length) => file.frame(frameKind.operations, frame.subarray(0, length)),
    };
    this.#file = file;
    this.#encoder = new TarRecordEncoder(sink);
  }

  /** Bytes of the tar that are not content of a file. */
  raw(bytes: Uint8Array): void {
    this.#tarSizeBytes += bytes.length;
    this.#encoder.raw(bytes);
  }

  /** The next `sizeBytes` bytes of the tar are the content of the file at `path` in the layer's merged view. */
  file(path: ByteString, sizeBytes: number): void {
    this.#tarSizeBytes += sizeBytes;
    this.#encoder.file(path, sizeBytes);
  }

  /** Completes the record. */
  close(): void {
    this.#encoder.end();
    this.#file.close(this.#tarSizeBytes);
  }

  /** Closes the file; without `close` before, the record is incomplete. */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
