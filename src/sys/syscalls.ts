/**
 * The typed facade over ./raw.ts: the same calls under the same names, but a failure throws SyscallError with the call, the
 * errno's name and the path, and outcomes that are expected come back as values (`statIfExists`, `lgetxattr` answer
 * undefined for what is not there). Interrupted calls are retried where that is safe.
 *
 * Use this everywhere but in loops over many files, which call the raw functions and judge the errno themselves.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "./constants.ts";
import * as raw from "./raw.ts";

export type { DirEntry, Stat, StatFs } from "./raw.ts";

const ENOENT = 2;
const EINTR = 4;
const EEXIST = 17;
const EINVAL = 22;
const ENODATA = 61;
const EOPNOTSUPP = 95;
const ENOSYS = 38;
const ENOTDIR = 20;

function fail(syscall: string, result: number, path?: ByteString): never {
  throw new SyscallError(syscall, -result, path === undefined ? undefined : textOfBytes(path));
}

function check(syscall: string, result: number, path?: ByteString): number {
  return result < 0 ? fail(syscall, result, path) : result;
}

/** An open descriptor with one owner; closing twice is harmless. */
export class OwnedFd implements Disposable {
  #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The descriptor's number. Throws when it has been closed. */
  get fd(): number {
    if (this.#fd < 0) throw new SyscallError("close", 9);
    return this.#fd;
  }

  /** Gives up ownership: the caller closes the descriptor. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    raw.close(this.#fd);
    this.#fd = -1;
  }
}

export function openat(dirfd: number, path: ByteString, flags: number, mode = 0): number {
  return check("openat", raw.openat(dirfd, path, flags, mode), path);
}

export function openat2(dirfd: number, path: ByteString, flags: number, mode: number, resolve: number): number {
  return check("openat2", raw.openat2(dirfd, path, flags, mode, resolve), path);
}

/** Opens an absolute or working-directory path of the host for use with `using`. */
export function open(path: ByteString, flags: number, mode = 0): OwnedFd {
  return new OwnedFd(openat(C.AT_FDCWD, path, flags, mode));
}

/** A file in memory, without a name, for use with `using`. */
export function memfd_create(name: ByteString): OwnedFd {
  return new OwnedFd(check("memfd_create", raw.memfd_create(name)));
}

export function close(fd: number): void {
  check("close", raw.close(fd));
}

export function read(fd: number, into: Uint8Array, length = into.length): number {
  for (;;) {
    const n = raw.read(fd, into, length);
    if (n !== -EINTR) return check("read", n);
  }
}

export function pread64(fd: number, into: Uint8Array, length: number, offset: number): number {
  for (;;) {
    const n = raw.pread64(fd, into, length, offset);
    if (n !== -EINTR) return check("pread64", n);
  }
}

/** Writes all of `from`. */
export function writeAll(fd: number, from: Uint8Array): void {
  let rest = from;
  while (rest.length > 0) {
    const n = raw.write(fd, rest, rest.length);
    if (n === -EINTR) continue;
    check("write", n);
    rest = rest.subarray(n);
  }
}

export function lseek(fd: number, offset: number, whence: number): number {
  return check("lseek", raw.lseek(fd, offset, whence));
}

export function ftruncate(fd: number, length: number): void {
  check("ftruncate", raw.ftruncate(fd, length));
}

export function fsync(fd: number): void {
  check("fsync", raw.fsync(fd));
}

export function syncfs(fd: number): void {
  check("syncfs", raw.syncfs(fd));
}

export function mkdirat(dirfd: number, path: ByteString, mode: number): void {
  check("mkdirat", raw.mkdirat(dirfd, path, mode), path);
}

/** `mode` includes the S_IF type. */
export function mknodat(dirfd: number, path: ByteString, mode: number, devMajor = 0, devMinor = 0): void {
  check("mknodat", raw.mknodat(dirfd, path, mode, devMajor, devMinor), path);
}

export function symlinkat(target: ByteString, dirfd: number, path: ByteString): void {
  check("symlinkat", raw.symlinkat(target, dirfd, path), path);
}

export function linkat(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags = 0): void {
  check("linkat", raw.linkat(fromDirfd, from, toDirfd, to, flags), to);
}

export function renameat2(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags = 0): void {
  check("renameat2", raw.renameat2(fromDirfd, from, toDirfd, to, flags), from);
}

/**
 * Renames to a name that has to be free: EEXIST otherwise. NFS and many FUSE file systems cannot promise that (EINVAL);
 * there the name is looked at before, so whoever calls must know that nobody else makes it meanwhile.
 */
export function renameToFree(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString): void {
  const result = raw.renameat2(fromDirfd, from, toDirfd, to, C.RENAME_NOREPLACE);
  if (result !== -EINVAL) return void check("renameat2", result, from);
  if (statIfExists(toDirfd, to) !== undefined) fail("renameat2", -EEXIST, from);
  renameat2(fromDirfd, from, toDirfd, to);
}

export function unlinkat(dirfd: number, path: ByteString, flags = 0): void {
  check("unlinkat", raw.unlinkat(dirfd, path, flags), path);
}

/** Removes a name; false when it was not there. */
export function unlinkIfExists(dirfd: number, path: ByteString, flags = 0): boolean {
  const r = raw.unlinkat(dirfd, path, flags);
  if (r === -ENOENT) return false;
  check("unlinkat", r, path);
  return true;
}

/** Changes the owner of `path` itself, never through a symlink. */
export function lchownat(dirfd: number, path: ByteString, uid: number, gid: number): void {
  check("fchownat", raw.fchownat(dirfd, path, uid, gid, C.AT_SYMLINK_NOFOLLOW), path);
}

/**
 * Changes the mode of `path` itself; a symlink is refused with ENOTSUP or ELOOP; an empty path is the descriptor. Uses
 * fchmodat2, before Linux 6.6 a descriptor of the object and /proc/self/fd.
 */
export function lchmodat(dirfd: number, path: ByteString, mode: number): void {
  const r = raw.fchmodat2(dirfd, path, mode, path === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW);
  if (r !== -ENOSYS && r !== -1) {
    check("fchmodat2", r, path);
    return;
  }
  using own = path === "" ? undefined : new OwnedFd(openat(dirfd, path, C.O_PATH | C.O_NOFOLLOW));
  const object = own?.fd ?? dirfd;
  const stat = raw.statx(object, "", C.AT_EMPTY_PATH);
  if (typeof stat === "number") fail("statx", stat, path);
  if ((stat.mode & C.S_IFMT) === C.S_IFLNK) fail("fchmodat2", -EOPNOTSUPP, path);
  check("fchmodat", raw.fchmodat(C.AT_FDCWD, `/proc/self/fd/${object}`, mode), path);
}

/** Sets access and modification time of `path` itself; an empty path is the descriptor. */
export function utimensat(
  dirfd: number,
  path: ByteString,
  times: {
    readonly atimeSec: number;
    readonly atimeNsec: number;
    readonly mtimeSec: number;
    readonly mtimeNsec: number;
  },
): void {
  check(
    "utimensat",
    raw.utimensat(dirfd, path, times.atimeSec, times.atimeNsec, times.mtimeSec, times.mtimeNsec),
    path,
  );
}

export function readlinkat(dirfd: number, path: ByteString): ByteString {
  const target = raw.readlinkat(dirfd, path);
  return typeof target === "number" ? fail("readlinkat", target, path) : target;
}

/** lstat relative to `dirfd`. */
export function statx(dirfd: number, path: ByteString, flags: number = C.AT_SYMLINK_NOFOLLOW): raw.Stat {
  const stat = raw.statx(dirfd, path, flags);
  return typeof stat === "number" ? fail("statx", stat, path) : stat;
}

/** lstat, or undefined when the name (or a directory on the way) does not exist. */
export function statIfExists(dirfd: number, path: ByteString): raw.Stat | undefined {
  const stat = raw.statx(dirfd, path);
  if (stat === -ENOENT || stat === -ENOTDIR) return undefined;
  return typeof stat === "number" ? fail("statx", stat, path) : stat;
}

export function fstat(fd: number): raw.Stat {
  const stat = raw.statx(fd, "", C.AT_EMPTY_PATH);
  return typeof stat === "number" ? fail("statx", stat) : stat;
}

/** All names of the open directory `fd` from its present position, in the file system's order, without `.` and `..`. */
export function readdir(fd: number): raw.DirEntry[] {
  const entries: raw.DirEntry[] = [];
  while (check("getdents64", raw.getdents64(fd, entries)) > 0);
  return entries;
}

/** The value of an attribute of `path` itself, undefined when it has none of that name or the file system has none at all. */
export function lgetxattrat(dirfd: number, path: ByteString, name: ByteString): Buffer | undefined {
  const value = raw.lgetxattrat(dirfd, path, name);
  if (value === -ENODATA || value === -EOPNOTSUPP) return undefined;
  return typeof value === "number" ? fail("lgetxattr", value, path) : value;
}

export function fgetxattr(fd: number, name: ByteString): Buffer | undefined {
  const value = raw.fgetxattr(fd, name);
  if (value === -ENODATA || value === -EOPNOTSUPP) return undefined;
  return typeof value === "number" ? fail("fgetxattr", value) : value;
}

/** Names of the attributes of `path` itself; empty where the file system has none. */
export function llistxattrat(dirfd: number, path: ByteString): ByteString[] {
  const names = raw.llistxattrat(dirfd, path);
  if (names === -EOPNOTSUPP) return [];
  return typeof names === "number" ? fail("llistxattr", names, path) : names;
}

export function lsetxattrat(dirfd: number, path: ByteString, name: ByteString, value: Uint8Array, flags = 0): void {
  check(`lsetxattr ${textOfBytes(name)}`, raw.lsetxattrat(dirfd, path, name, value, flags), path);
}

export function fsetxattr(fd: number, name: ByteString, value: Uint8Array, flags = 0): void {
  check(`fsetxattr ${textOfBytes(name)}`, raw.fsetxattr(fd, name, value, flags));
}

/** Removes an attribute; false when it was not there. */
export function lremovexattrat(dirfd: number, path: ByteString, name: ByteString): boolean {
  const r = raw.lremovexattrat(dirfd, path, name);
  if (r === -ENODATA || r === -EOPNOTSUPP) return false;
  check("lremovexattr", r, path);
  return true;
}

export function mount(source: ByteString, target: ByteString, type: ByteString, flags: number, data: ByteString): void {
  check("mount", raw.mount(source, target, type, flags, data), target);
}

export function umount2(target: ByteString, flags: number): void {
  check("umount2", raw.umount2(target, flags), target);
}

export function unshare(flags: number): void {
  check("unshare", raw.unshare(flags));
}

export function setns(fd: number, type: number): void {
  check("setns", raw.setns(fd, type));
}

export function pivot_root(newRoot: ByteString, putOld: ByteString): void {
  check("pivot_root", raw.pivot_root(newRoot, putOld), newRoot);
}

export function chroot(path: ByteString): void {
  check("chroot", raw.chroot(path), path);
}

export function chdir(path: ByteString): void {
  check("chdir", raw.chdir(path), path);
}

export function sethostname(name: ByteString): void {
  check("sethostname", raw.sethostname(name));
}

export function prctl(option: number, a: number, b = 0, c = 0, d = 0): number {
  return check("prctl", raw.prctl(option, a, b, c, d));
}

export function statfs(path: ByteString): raw.StatFs {
  const result = raw.statfs(path);
  return typeof result === "number" ? fail("statfs", result, path) : result;
}

/** The time of a CLOCK_ constant's clock. */
export function clock_gettime(clock: number): { readonly sec: number; readonly nsec: number } {
  const time = raw.clock_gettime(clock);
  return typeof time === "number" ? fail("clock_gettime", time) : time;
}

/** Takes or drops a whole-file lock; false when LOCK_NB was given and another holds it. */
export function flock(fd: number, operation: number): boolean {
  for (;;) {
    const r = raw.flock(fd, operation);
    if (r === -EINTR) continue;
    if (r === -11) return false;
    check("flock", r);
    return true;
  }
}

/** True when the two describe the same inode of the same device. */
export function sameInode(a: raw.Stat, b: raw.Stat): boolean {
  return a.inoLow === b.inoLow && a.inoHigh === b.inoHigh && a.devMinor === b.devMinor && a.devMajor === b.devMajor;
}

/** A map key for an inode: equal exactly for two stats of the same inode of the same device. */
export function inodeKey(stat: raw.Stat): string {
  return `${stat.devMajor}:${stat.devMinor}:${stat.inoHigh}:${stat.inoLow}`;
}

/** When an object was made, in seconds and nanoseconds; undefined where its file system does not say. */
export function birthTime(
  dirfd: number,
  path: ByteString,
  flags: number = C.AT_SYMLINK_NOFOLLOW,
): readonly [number, number] | undefined {
  const birth = raw.statxBirthTime(dirfd, path, flags);
  return birth === undefined || typeof birth === "number" ? undefined : [birth.sec, birth.nsec];
}
