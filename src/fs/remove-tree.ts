/**
 * Removes a directory with all below it, never through a symbolic link and never into another mount. Names that vanish
 * meanwhile are no error: two may remove one tree together. Directories are opened one below the other by descriptor; what
 * lies too deep for that is first moved up to the top, so that no depth is too much. Every directory's names are read before
 * any is removed, as file systems differ in what readdir gives while names go.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  DT_DIR,
  DT_UNKNOWN,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  RENAME_NOREPLACE,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

const ENOENT = 2;
const EACCES = 13;
const EBUSY = 16;
const EEXIST = 17;
const EISDIR = 21;
const EINVAL = 22;
const EPERM = 1;
const ENOTEMPTY = 39;
const ELOOP = 40;
const ENOTDIR = 20;

export interface RemoveTreeOptions {
  /** Stop after about this many names and answer false; the rest is left for another call. */
  readonly maxEntries?: number;
  /** Called now and then; throwing ends the removal. */
  readonly checkpoint?: () => void;
}

/** Removes `path`, whatever it is. True when nothing of it is left. Errors: EBUSY for a mount point inside, and others. */
export function removeTree(path: ByteString, options: RemoveTreeOptions = {}): boolean {
  return new Remover(options).remove(AT_FDCWD, path, path, DT_UNKNOWN, 0);
}

/** Like {@link removeTree}, for the name `name` in an open directory. */
export function removeTreeAt(dirfd: number, name: ByteString, options: RemoveTreeOptions = {}): boolean {
  return new Remover(options).remove(dirfd, name, name, DT_UNKNOWN, 0);
}

const DEEPEST = 100;

class Remover {
  /** The directory being removed, while it is open. */
  #top: number | undefined;
  #moved = 0;
  #left: number;
  readonly #checkpoint: () => void;

  constructor(options: RemoveTreeOptions) {
    this.#left = options.maxEntries ?? Number.POSITIVE_INFINITY;
    this.#checkpoint = options.checkpoint ?? (() => {});
  }

  remove(dirfd: number, name: ByteString, shown: ByteString, type: number, depth: number): boolean {
    if (type !== DT_DIR) {
      const r = raw.unlinkat(dirfd, name);
      if (r >= 0 || r === -ENOENT) return true;
      if (r !== -EISDIR && r !== -EPERM) throw failed("unlinkat", r, shown);
      if (r === -EPERM && !isDirectory(dirfd, name)) throw failed("unlinkat", r, shown);
    }
    for (let attempt = 0; ; attempt++) {
      const r = raw.unlinkat(dirfd, name, AT_REMOVEDIR);
      if (r >= 0 || r === -ENOENT) return true;
      if (r === -ENOTDIR) return this.remove(dirfd, name, shown, DT_UNKNOWN, depth);
      if (r === -EBUSY)
        throw new LamellaError("failed_precondition", "EBUSY", `${textOfBytes(shown)} is a mount point`, {
          hint: "unmount it, also in other mount namespaces, and try again",
        });
      if (r !== -ENOTEMPTY && r !== -EEXIST) throw failed("unlinkat", r, shown);
      if (depth >= DEEPEST && this.#moveUp(dirfd, name)) return true;
      const moved = this.#moved;
      if (attempt >= 3) throw failed("unlinkat", r, shown);
      if (!this.#empty(dirfd, name, shown, depth)) return false;
      // What was moved up lies in the top directory now: that takes another round, as often as needed.
      if (depth === 0 && this.#moved > moved) attempt = 0;
    }
  }

  #moveUp(dirfd: number, name: ByteString): boolean {
    if (this.#top === undefined) return false;
    const aside = `.lamella-deep-${this.#moved}-${process.pid}`;
    const result = raw.renameat2(dirfd, name, this.#top, aside, RENAME_NOREPLACE);
    // Not every file system can promise that the name is free; nobody else makes this one.
    if (result !== -EINVAL ? result < 0 : raw.renameat2(dirfd, name, this.#top, aside, 0) < 0) return false;
    this.#moved++;
    return true;
  }

  #empty(dirfd: number, name: ByteString, shown: ByteString, depth: number): boolean {
    let fd = raw.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd === -EACCES && makeAccessible(dirfd, name))
      fd = raw.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd === -ENOENT || fd === -ENOTDIR || fd === -ELOOP) return true;
    if (fd < 0) throw failed("openat", fd, shown);
    using directory = new sys.OwnedFd(fd);
    if ((sys.fstat(fd).mode & 0o700) !== 0o700) raw.fchmod(fd, 0o700);
    if (depth === 0) this.#top = fd;
    this.#checkpoint();
    for (const entry of sys.readdir(directory.fd)) {
      if (this.#left-- <= 0) return false;
      if (!this.remove(fd, entry.name, `${shown}/${entry.name}`, entry.type, depth + 1)) return false;
    }
    return true;
  }
}

function isDirectory(dirfd: number, name: ByteString): boolean {
  const stat = raw.statx(dirfd, name);
  return typeof stat !== "number" && (stat.mode & 0o170000) === 0o040000;
}

function failed(syscall: string, result: number, path: ByteString): SyscallError {
  return new SyscallError(syscall, -result, textOfBytes(path));
}

/** False when it is not ours to change, or gone. */
function makeAccessible(dirfd: number, name: ByteString): boolean {
  try {
    sys.lchmodat(dirfd, name, 0o700);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}
