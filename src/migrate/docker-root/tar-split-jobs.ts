/** The two jobs about a layer's tar-split, in a worker thread: see ./layer-tar.ts. Only decompression is asynchronous. */
import { createReadStream } from "node:fs";
import { gzipSync } from "node:zlib";
import { type FileNote, TarMaker, type TarSource } from "../../diff/tar-record-job.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { type Piece, PieceBuffer, type PieceJob } from "../../fs/pieces.ts";
import { RootDir } from "../../fs/root-dir.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { decompress } from "../../tar/index.ts";
import { Crc64 } from "./crc64.ts";
import { TarSplitDecoder, TarSplitEncoder, type TarSplitHandler } from "./tar-split.ts";
import { damagedContent, TreeContents, type TreeSource } from "./tree-contents.ts";

const EINTR = 4;
/** So much of a tar-split is compressed at a time, each as a gzip member of its own. */
const memberBytes = 1024 * 1024;

/** Makes a layer's tar of its tar-split and its files. */
export interface ReadSplitJob extends PieceJob {
  readonly kind: "read";
  /** Docker's root, and the tar-split's path beneath it. */
  readonly root: ByteString;
  readonly splitPath: ByteString;
  readonly content: TreeSource;
}

/** Makes the tar-split of a layer that has a tar record. */
export interface WriteSplitJob extends TarSource {
  readonly kind: "write";
  /** The file to write; it must not exist. */
  readonly splitPath: ByteString;
}

export interface WrittenSplit {
  /** Bytes of files in the layer. */
  readonly contentBytes: number;
}

/** Hands the tar's pieces to `deliver`. Errors: data_loss that names the file or the line. */
export async function readSplit(job: ReadSplitJob, deliver: (piece: Piece) => void): Promise<void> {
  using root = RootDir.open(job.root);
  using split = root.open(job.splitPath, C.O_RDONLY, 0, { escape: "refuse", symlinks: "refuse" });
  using reader = new SplitReader(job.content, deliver);
  const decoder = new TarSplitDecoder(reader);
  // The descriptor's own name: a stream closes what it opened, and this one is closed above.
  const stored = createReadStream(`/proc/self/fd/${split.fd}`, { highWaterMark: 256 * 1024 });
  for await (const chunk of decompress(stored, { expected: "gzip" })) decoder.push(Buffer.from(chunk));
  decoder.end();
  reader.end();
}

class SplitReader implements TarSplitHandler, Disposable {
  readonly #contents: TreeContents;
  readonly #pieces: PieceBuffer;
  readonly #crc = new Crc64();

  constructor(content: TreeSource, deliver: (piece: Piece) => void) {
    this.#contents = new TreeContents(content);
    this.#pieces = new PieceBuffer(deliver);
  }

  segment(bytes: Buffer): void {
    this.#pieces.push(bytes);
  }

  file(name: ByteString, sizeBytes: number, crc: Buffer): void {
    using file = this.#contents.open(name, sizeBytes);
    this.#crc.reset();
    for (let left = sizeBytes; left > 0; ) {
      const into = this.#pieces.free.subarray(0, left);
      const n = raw.read(file.fd, into, into.length);
      if (n === -EINTR) continue;
      if (n < 0) throw new SyscallError("read", -n, textOfBytes(name));
      if (n === 0) throw damagedContent(name, "became shorter while it was read");
      this.#crc.update(into.subarray(0, n));
      left -= n;
      this.#pieces.advance(n);
    }
    if (!this.#crc.digest().equals(crc)) throw damagedContent(name, "no longer has the content that Docker noted");
  }

  end(): void {
    this.#pieces.flush();
  }

  [Symbol.dispose](): void {
    this.#contents[Symbol.dispose]();
  }
}

/**
 * Writes a tar-split. The tar is made from the record and verified on the way; what the record says is a whole file of the
 * layer's tree becomes a file, all else segments: also contents that the tree has no longer, or only in other words (sparse
 * files), which Docker itself could not have kept.
 */
export function writeSplit(job: WriteSplitJob): WrittenSplit {
  using file = sys.open(job.splitPath, C.O_WRONLY | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW, 0o644);
  const lines: Buffer[] = [];
  let lineBytes = 0;
  const flush = (): void => {
    sys.writeAll(file.fd, gzipSync(Buffer.concat(lines)));
    lines.length = 0;
    lineBytes = 0;
  };
  const splitter = new Splitter(
    new TarSplitEncoder((line) => {
      lines.push(line);
      lineBytes += line.length;
      if (lineBytes >= memberBytes) flush();
    }),
  );
  using maker = new TarMaker(job, (piece) => splitter.push(piece), splitter.note);
  maker.make();
  splitter.end();
  flush();
  return { contentBytes: splitter.contentBytes };
}

/** Cuts the tar into segments and files. */
class Splitter {
  contentBytes = 0;
  readonly #encoder: TarSplitEncoder;
  /** Files that lie ahead or are being read, in order. */
  readonly #files: { readonly path: ByteString; readonly start: number; readonly end: number }[] = [];
  readonly #crc = new Crc64();
  #offset = 0;

  constructor(encoder: TarSplitEncoder) {
    this.#encoder = encoder;
  }

  readonly note: FileNote = (path, start, sizeBytes) => {
    if (sizeBytes > 0) this.#files.push({ path, start, end: start + sizeBytes });
  };

  push(piece: Piece): void {
    for (let at = 0; at < piece.length; ) {
      const file = this.#files[0];
      const inFile = file !== undefined && this.#offset >= file.start;
      const until = file === undefined ? Number.POSITIVE_INFINITY : inFile ? file.end : file.start;
      const part = piece.subarray(at, at + until - this.#offset);
      at += part.length;
      this.#offset += part.length;
      if (!inFile) this.#encoder.segment(part);
      else {
        this.#crc.update(part);
        if (this.#offset === file.end) this.#endFile(file.path, file.end - file.start);
      }
    }
  }

  end(): void {
    this.#encoder.end();
  }

  #endFile(path: ByteString, sizeBytes: number): void {
    this.#encoder.file(path, sizeBytes, this.#crc.digest());
    this.#crc.reset();
    this.contentBytes += sizeBytes;
    this.#files.shift();
  }
}
