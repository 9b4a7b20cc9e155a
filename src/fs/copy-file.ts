/**
 * Copies the content of one open file to another, empty one: a reflink where the file system can (FICLONE), else
 * copy_file_range, else read and write. Holes stay holes (SEEK_DATA, SEEK_HOLE). The target ends with the source's size.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { SEEK_DATA, SEEK_HOLE, SEEK_SET } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const EPERM = 1;
const EINTR = 4;
const EBADF = 9;
const EXDEV = 18;
const EINVAL = 22;
const EOPNOTSUPP = 95;
const ENOSYS = 38;
const ENXIO = 6;
const ENOTTY = 25;
const ETXTBSY = 26;

const cannot: readonly number[] = [-EPERM, -EBADF, -EXDEV, -EINVAL, -EOPNOTSUPP, -ENOSYS, -ENOTTY, -ETXTBSY];
const CHUNK = 1 << 30;
/** So much is copied before the disk is to begin with it. */
const WRITE_BEHIND = 32 << 20;

/** Copies file contents between one pair of file systems, and remembers which ways work there. */
export class FileCopier {
  #reflink = true;
  #range = true;
  #buffer: Buffer | undefined;
  readonly #chunk: number;
  readonly #writesBehind: boolean;
  /** Bytes copied, holes and shared extents not counted. */
  copiedBytes = 0;
  /** Files that share their extents with the source. */
  reflinked = 0;

  /** `writesBehind`: the copies are to be synced, so that the disk may begin while they are made. */
  constructor(options: { readonly writesBehind?: boolean } = {}) {
    this.#writesBehind = options.writesBehind ?? false;
    this.#chunk = this.#writesBehind ? WRITE_BEHIND : CHUNK;
  }

  /** `sizeBytes` and `blocks` (of 512 bytes) are the source's; both files stand at offset 0. */
  copy(fromFd: number, toFd: number, sizeBytes: number, blocks: number): void {
    if (sizeBytes === 0) return;
    if (this.#reflink && blocks > 0) {
      const r = raw.ficlone(toFd, fromFd);
      if (r >= 0) {
        this.reflinked++;
        return;
      }
      if (!cannot.includes(r)) throw new SyscallError("ioctl FICLONE", -r);
      this.#reflink = false;
    }
    if (blocks * 512 >= sizeBytes) {
      this.#extent(fromFd, toFd, sizeBytes);
      return;
    }
    this.#sparse(fromFd, toFd, sizeBytes);
  }

  #sparse(fromFd: number, toFd: number, sizeBytes: number): void {
    for (let at = 0; at < sizeBytes; ) {
      const data = raw.lseek(fromFd, at, SEEK_DATA);
      if (data === -ENXIO) break;
      if (data === -EINVAL) {
        sys.lseek(fromFd, at, SEEK_SET);
        sys.lseek(toFd, at, SEEK_SET);
        this.#extent(fromFd, toFd, sizeBytes - at);
        return;
      }
      if (data < 0) throw new SyscallError("lseek SEEK_DATA", -data);
      const hole = sys.lseek(fromFd, data, SEEK_HOLE);
      sys.lseek(fromFd, data, SEEK_SET);
      sys.lseek(toFd, data, SEEK_SET);
      this.#extent(fromFd, toFd, hole - data);
      at = hole;
    }
    sys.ftruncate(toFd, sizeBytes);
  }

  /** Copies `lengthBytes` from the present offsets; a source that has become shorter ends it early. */
  #extent(fromFd: number, toFd: number, lengthBytes: number): void {
    let left = lengthBytes;
    while (left > 0 && this.#range) {
      const n = raw.copy_file_range(fromFd, toFd, Math.min(left, this.#chunk));
      if (n === -EINTR) continue;
      if (n < 0) {
        if (!cannot.includes(n)) throw new SyscallError("copy_file_range", -n);
        this.#range = false;
        break;
      }
      // Some file systems answer 0 where there is data: what is left is read, which tells the end for certain.
      if (n === 0) break;
      left -= n;
      this.copiedBytes += n;
      // Of the whole file: what is under way already is left alone.
      if (this.#writesBehind && n === this.#chunk) raw.startWriting(toFd, 0, 0);
    }
    this.#buffer ??= Buffer.allocUnsafeSlow(256 * 1024);
    while (left > 0) {
      const n = sys.read(fromFd, this.#buffer, Math.min(left, this.#buffer.length));
      if (n === 0) return;
      sys.writeAll(toFd, this.#buffer.subarray(0, n));
      left -= n;
      this.copiedBytes += n;
    }
  }
}
