/**
 * Keeps contents that the layer itself replaces: an archive may hold two files of one name, and its exact bytes need both.
 * The replaced file moves into the spill directory under a number; the record says which payload lies there. The directory
 * is made when the first file needs it and must be on the target's file system.
 */
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { Move } from "./tar-record-format.ts";

const EEXIST = 17;

export class Spill implements Disposable {
  readonly moves: Move[] = [];
  readonly #path: ByteString;
  #directory: sys.OwnedFd | undefined;

  /** `path`: absolute path of the directory; its parent exists. */
  constructor(path: ByteString) {
    this.#path = path;
  }

  /** Moves the file `name`, which is the record's payload number `payload`, out of the tree. Errors: SyscallError. */
  keep(dirfd: number, name: ByteString, payload: number): void {
    this.#directory ??= this.#make();
    const spill = this.moves.length;
    // A file with other names must not count a name outside the tree: its content is copied.
    if (sys.statx(dirfd, name).nlink > 1) this.#copy(dirfd, name, String(spill));
    else sys.renameat2(dirfd, name, this.#directory.fd, String(spill));
    this.moves.push({ payload, spill });
  }

  [Symbol.dispose](): void {
    this.#directory?.[Symbol.dispose]();
  }

  #make(): sys.OwnedFd {
    const made = raw.mkdirat(C.AT_FDCWD, this.#path, 0o700);
    if (made < 0 && made !== -EEXIST) sys.mkdirat(C.AT_FDCWD, this.#path, 0o700);
    return sys.open(this.#path, C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW);
  }

  #copy(dirfd: number, name: ByteString, to: ByteString): void {
    const into = (this.#directory as sys.OwnedFd).fd;
    using from = new sys.OwnedFd(sys.openat(dirfd, name, C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK));
    using file = new sys.OwnedFd(sys.openat(into, to, C.O_WRONLY | C.O_CREAT | C.O_TRUNC | C.O_NOFOLLOW, 0o600));
    copyContent(from.fd, file.fd);
  }
}

/** Copies all of one file into another, empty one: a reflink where the file system has them. Errors: SyscallError. */
export function copyContent(from: number, to: number): void {
  if (raw.ficlone(to, from) >= 0) return;
  const size = sys.fstat(from).size;
  let done = 0;
  while (done < size) {
    const n = raw.copy_file_range(from, to, Math.min(size - done, 1 << 30));
    if (n <= 0) break;
    done += n;
  }
  // What copy_file_range does not do (another file system, an old kernel), reading and writing does.
  const buffer = Buffer.allocUnsafe(done < size ? 1 << 20 : 0);
  while (done < size) {
    const n = sys.pread64(from, buffer, buffer.length, done);
    if (n === 0) break;
    sys.writeAll(to, buffer.subarray(0, n));
    done += n;
  }
}
