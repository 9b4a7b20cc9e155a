/**
 * Files that a layer being applied need not write, as the same layer already lies elsewhere on the file system: under another
 * driver, or in Docker's root. A donor is the directory of such a layer.
 *
 * A donor is never trusted. The tar's bytes come and are hashed as always, and every one is compared with the donor's; where
 * they differ, the tar's are written. So a donor changes what a layer costs on disk, never what it holds.
 *
 * Two ways to share, the first that the file system has:
 * - a reflink (FICLONE): another inode over the same extents; whoever writes gets extents of his own. Always safe.
 * - a hard link: the same inode. Owner, mode, times and attributes must be equal to the last, for they are shared too; and
 *   nobody may ever write to either tree in place. So it is for the caller to allow.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { TarEntry } from "../tar/entry.ts";
import { isOverlayXattr } from "./apply-metadata.ts";

const EINTR = 4;
const EIO = 5;
const EXDEV = 18;
const ENOTTY = 25;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
/** Errors that say that the file system has no reflinks, or that the two lie on different ones. */
const neverClones: readonly number[] = [-EXDEV, -ENOTTY, -ENOSYS, -EOPNOTSUPP];

/** Smaller files are written: on most file systems a clone of one block costs more than the block. */
const minCloneBytes = 4096;
const metacopyNames = ["trusted.overlay.metacopy", "user.overlay.metacopy"];
const openFlags = C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK | C.O_NOCTTY;
const beneath = C.RESOLVE_BENEATH | C.RESOLVE_NO_SYMLINKS | C.RESOLVE_NO_MAGICLINKS;

/** Where a donor lies, as plain data. */
export interface ContentDonor {
  /** Absolute path of the tree (or overlay directory) that holds the same layer. */
  readonly directory: ByteString;
  /** Hard links are allowed. */
  readonly link: boolean;
}

/** An open donor, and the one file of it that is being compared. */
export class Donor implements Disposable {
  readonly #directory: sys.OwnedFd;
  #mayLink: boolean;
  #mayClone = true;
  #file: sys.OwnedFd | undefined;
  /** Bytes of the file found equal to the tar's so far. */
  #equalBytes = 0;
  #buffer = Buffer.alloc(0);

  constructor({ directory, link }: ContentDonor) {
    this.#directory = sys.open(directory, C.O_PATH | C.O_DIRECTORY);
    this.#mayLink = link;
  }

  [Symbol.dispose](): void {
    this.close();
    this.#directory[Symbol.dispose]();
  }

  /** A file is being compared. */
  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  /**
   * Opens the file that may have an entry's content: one of its name and size with data of its own. Answers how it can be
   * shared, undefined when it cannot.
   */
  open(path: ByteString, sizeBytes: number): "clone" | "link" | undefined {
    const way = this.#mayClone ? "clone" : "link";
    if (way === "clone" ? sizeBytes < minCloneBytes : !this.#mayLink) return undefined;
    const fd = raw.haveOpenat2 ? raw.openat2(this.#directory.fd, path, openFlags, 0, beneath) : -ENOSYS;
    if (fd < 0) return undefined;
    this.#file = new sys.OwnedFd(fd);
    this.#equalBytes = 0;
    const stat = raw.statx(fd, "", C.AT_EMPTY_PATH);
    if (typeof stat !== "number" && (stat.mode & C.S_IFMT) === C.S_IFREG && stat.size === sizeBytes) {
      // A file whose inode alone was copied up has its size but not its data.
      if (metacopyNames.every((name) => typeof raw.fgetxattr(fd, name) === "number")) return way;
    }
    this.close();
    return undefined;
  }

  /**
   * Gives the empty file `to` the open file's extents. When that cannot be, answers `link` if it can be shared that way, else
   * undefined, and the open file is closed.
   */
  clone(to: number): "clone" | "link" | undefined {
    const r = raw.ficlone(to, this.#fd);
    if (r >= 0) return "clone";
    if (neverClones.includes(r)) this.#mayClone = false;
    if (!this.#mayClone && this.#mayLink) return "link";
    this.close();
    return undefined;
  }

  /** Compares the tar's next bytes with the file's; true when they are equal. */
  compare(bytes: Uint8Array): boolean {
    if (this.#buffer.length < bytes.length) this.#buffer = Buffer.allocUnsafe(bytes.length);
    for (let at = 0; at < bytes.length; ) {
      const n = raw.pread64(this.#fd, this.#buffer, bytes.length - at, this.#equalBytes + at);
      if (n === -EINTR) continue;
      if (n <= 0 || this.#buffer.compare(bytes, at, at + n, 0, n) !== 0) return false;
      at += n;
    }
    this.#equalBytes += bytes.length;
    return true;
  }

  get equalBytes(): number {
    return this.#equalBytes;
  }

  /** Links the open file to a name. Returns -errno. */
  linkTo(dirfd: number, name: ByteString): number {
    const r = raw.linkat(C.AT_FDCWD, `/proc/self/fd/${this.#fd}`, dirfd, name, C.AT_SYMLINK_FOLLOW);
    if (r === -EXDEV) this.#mayLink = false;
    return r;
  }

  /** True when the open file has exactly the owner, mode, time and attributes of an entry. */
  hasMetadataOf(entry: TarEntry): boolean {
    const stat = sys.fstat(this.#fd);
    if ((stat.mode & 0o7777) !== entry.mode || stat.uid !== entry.uid || stat.gid !== entry.gid) return false;
    if (stat.mtimeSec !== entry.mtimeSec || stat.mtimeNsec !== entry.mtimeNsec) return false;
    const names = raw.flistxattr(this.#fd);
    const wanted = [...entry.xattrs].filter(([name]) => !isOverlayXattr(name));
    if ((typeof names === "number" ? 0 : names.length) !== wanted.length) return false;
    return wanted.every(([name, value]) => sys.fgetxattr(this.#fd, name)?.equals(value) === true);
  }

  /** Writes the bytes found equal so far to the file `to`. */
  copyEqual(to: number): void {
    const buffer = Buffer.allocUnsafe(Math.min(this.#equalBytes, 1024 * 1024));
    for (let at = 0; at < this.#equalBytes; ) {
      const n = sys.pread64(this.#fd, buffer, Math.min(buffer.length, this.#equalBytes - at), at);
      if (n === 0) throw new SyscallError("pread64", EIO);
      sys.writeAll(to, buffer.subarray(0, n));
      at += n;
    }
  }

  /** Ends with the open file. */
  close(): void {
    this.#file?.[Symbol.dispose]();
    this.#file = undefined;
  }

  get #fd(): number {
    return (this.#file as sys.OwnedFd).fd;
  }
}
