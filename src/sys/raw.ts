/**
 * Raw system calls: every function here makes one call and returns its result, or -errno. Nothing is thrown, nothing is
 * retried, nothing is checked but what would corrupt memory or meaning: a path with a NUL byte answers -EINVAL, one longer
 * than the scratch buffer -ENAMETOOLONG. All calls go through libc's `syscall`, so that one binding serves glibc and musl
 * and calls newer than the C library. Calls are synchronous and must run where blocking is allowed (mostly worker threads).
 *
 * Paths and names are byte strings (see lib/bytes.ts). Numbers up to 2^53 are exact; inode numbers come in two halves.
 * The file is longer than most because it is one table: splitting it would hide what is there.
 */
import { createRequire } from "node:module";
import { arch } from "node:os";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "./constants.ts";

const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");

const EINVAL = 22;
const ENAMETOOLONG = 36;
const ENOSYS = 38;
const ERANGE = 34;
const ENODATA = 61;

// biome-ignore format: a table, one row a call: [x86-64, generic (arm64, riscv64, loongarch64)]
const numbers = {
  read: [0, 63], write: [1, 64], close: [3, 57], lseek: [8, 62], ioctl: [16, 29], pread64: [17, 67], pwrite64: [18, 68],
  fcntl: [72, 25], flock: [73, 32], fsync: [74, 82], fdatasync: [75, 83], ftruncate: [77, 46], fchmod: [91, 52],
  fchown: [93, 55], umask: [95, 166], statfs: [137, 43], fstatfs: [138, 44], pivot_root: [155, 41], prctl: [157, 167],
  chroot: [161, 51], mount: [165, 40], umount2: [166, 39], sethostname: [170, 161], fchdir: [81, 50], chdir: [80, 49],
  lsetxattr: [189, 6], fsetxattr: [190, 7], lgetxattr: [192, 9], fgetxattr: [193, 10], llistxattr: [195, 12],
  flistxattr: [196, 13], lremovexattr: [198, 15], fremovexattr: [199, 16], getdents64: [217, 61], openat: [257, 56],
  mkdirat: [258, 34], mknodat: [259, 33], fchownat: [260, 54], unlinkat: [263, 35], linkat: [265, 37],
  symlinkat: [266, 36], readlinkat: [267, 78], fchmodat: [268, 53], unshare: [272, 97], utimensat: [280, 88],
  fallocate: [285, 47], syncfs: [306, 267], setns: [308, 268], renameat2: [316, 276], copy_file_range: [326, 285],
  statx: [332, 291], capset: [126, 91], capget: [125, 90], setgroups: [116, 159], memfd_create: [319, 279],
  open_tree: [428, 428], move_mount: [429, 429], fsopen: [430, 430], fsconfig: [431, 431], fsmount: [432, 432],
  setresuid: [117, 147], setresgid: [119, 149], socket: [41, 198], close_range: [436, 436],
  openat2: [437, 437], mount_setattr: [442, 442], fchmodat2: [452, 452], setxattrat: [463, 463], getxattrat: [464, 464],
  listxattrat: [465, 465], removexattrat: [466, 466], clock_gettime: [228, 113], quotactl: [179, 60],
  quotactl_fd: [443, 443], sched_setaffinity: [203, 122], sched_setscheduler: [144, 119],
  sched_getaffinity: [204, 123], sync_file_range: [277, 84],
  preadv2: [327, 286], socketpair: [53, 199], recvmsg: [47, 212], name_to_handle_at: [303, 264],
  ppoll: [271, 73], exit_group: [231, 94],
} as const;

const column = arch() === "x64" ? 0 : 1;
const nr = Object.fromEntries(Object.entries(numbers).map(([name, pair]) => [name, pair[column]])) as Record<
  keyof typeof numbers,
  number
>;

const libc = koffi.load(null);
type Arg = number | bigint | Uint8Array | null;
type Call = (...args: Arg[]) => number;
type Done = (error: Error | null, result: number) => void;
/** `syscall` bound to one shape of arguments: `i` int, `l` long, `p` pointer. */
function shape(letters: string): Call {
  const types = [...letters].map((c) => (c === "p" ? "void *" : c === "i" ? "int" : "long"));
  return libc.func("syscall", "long", ["long", ...types]) as unknown as Call;
}
const callL = shape("l");
const callLL = shape("ll");
const callLLL = shape("lll");
const callLLLL = shape("llll");
const callLLLLL = shape("lllll");
const callLLLLLL = shape("llllll");
const callLLP = shape("llp");
const callLLLP = shape("lllp");
// koffi carries errno from its thread to the callback.
const callLLPInThread = (callLLP as unknown as { readonly async: (...args: [...Arg[], Done]) => void }).async;
const callLLPPL = shape("llppl");
const callLP = shape("lp");
const callLPL = shape("lpl");
const callLPLL = shape("lpll");
const callLPLLL = shape("lplll");
const callLPLLLL = shape("lpllll");
const callLPLLP = shape("lpllp");
const callLPLP = shape("lplp");
const callLPLPLL = shape("lplpll");
const callLPLPL = shape("lplpl");
const callLPLPPL = shape("lplppl");
const callLPPL = shape("lppl");
const callLPPPL = shape("lpppl");
const callLPPLL = shape("lppll");
const callP = shape("p");
const callPL = shape("pl");
const callPLP = shape("plp");
const callPLPPL = shape("plppl");
const callPP = shape("pp");
const callPPL = shape("ppl");
const callPPPL = shape("pppl");
const callPPPLL = shape("pppll");
const callPPPLP = shape("ppplp");

const errno = koffi.errno as () => number;
function out(result: number): number {
  return result < 0 ? -errno() : result;
}

// Scratch space of this thread. Two paths are the most any call takes.
const SCRATCH = 70_000;
const pathA = Buffer.allocUnsafeSlow(SCRATCH);
const pathB = Buffer.allocUnsafeSlow(SCRATCH);
const keyBuffer = Buffer.allocUnsafeSlow(1024);

/** Writes `text` and a NUL into `into`; 0, or a negative errno. */
function put(into: Buffer, text: ByteString): number {
  const n = text.length;
  if (n >= into.length) return -ENAMETOOLONG;
  into.write(text, 0, "latin1");
  into[n] = 0;
  return text.includes("\0") ? -EINVAL : 0;
}

// ---- files and directories -------------------------------------------------------------------------------------------

export function openat(dirfd: number, path: ByteString, flags: number, mode = 0): number {
  const bad = put(pathA, path);
  return bad || out(callLPLL(nr.openat, dirfd, pathA, flags | C.O_CLOEXEC, mode));
}

const openHow = Buffer.alloc(24);
/** openat2(2) (Linux 5.6). `resolve` is a set of RESOLVE_ flags. */
export function openat2(dirfd: number, path: ByteString, flags: number, mode: number, resolve: number): number {
  const bad = put(pathA, path);
  if (bad) return bad;
  openHow.writeUInt32LE((flags | C.O_CLOEXEC) >>> 0, 0);
  openHow.writeUInt32LE(mode, 8);
  openHow.writeUInt32LE(resolve, 16);
  return out(callLPPL(nr.openat2, dirfd, pathA, openHow, 24));
}

/** A file in memory, without a name. `name` is for those who look at /proc. */
export function memfd_create(name: ByteString): number {
  const bad = put(pathA, name);
  return bad || out(callPL(nr.memfd_create, pathA, C.MFD_CLOEXEC));
}

/** A buffer at a page boundary, as O_DIRECT needs it. */
export function alignedBuffer(size: number): Buffer {
  const whole = Buffer.allocUnsafeSlow(size + 4096);
  const skip = (4096 - Number((koffi.address(whole) as bigint) % 4096n)) % 4096;
  return whole.subarray(skip, skip + size);
}

export function close(fd: number): number {
  return out(callL(nr.close, fd));
}

export function read(fd: number, into: Uint8Array, length = into.length): number {
  return out(callLPL(nr.read, fd, into, length));
}

export function pread64(fd: number, into: Uint8Array, length: number, offset: number): number {
  return out(callLPLL(nr.pread64, fd, into, length, offset));
}

const RWF_NOWAIT = 8;
const vector = Buffer.alloc(16);
/** As pread64, of what lies in memory alone: -EAGAIN where the disk would have to be asked, fewer bytes where it begins. */
export function preadCached(fd: number, into: Uint8Array, offset: number): number {
  vector.writeBigUInt64LE(koffi.address(into) as bigint, 0);
  vector.writeBigUInt64LE(BigInt(into.length), 8);
  return out(callLPLLLL(nr.preadv2, fd, vector, 1, offset, 0, RWF_NOWAIT));
}

export function write(fd: number, from: Uint8Array, length = from.length): number {
  return out(callLPL(nr.write, fd, from, length));
}

export function pwrite64(fd: number, from: Uint8Array, length: number, offset: number): number {
  return out(callLPLL(nr.pwrite64, fd, from, length, offset));
}

export function lseek(fd: number, offset: number, whence: number): number {
  return out(callLLL(nr.lseek, fd, offset, whence));
}

export function ftruncate(fd: number, length: number): number {
  return out(callLL(nr.ftruncate, fd, length));
}

export function fallocate(fd: number, mode: number, offset: number, length: number): number {
  return out(callLLLL(nr.fallocate, fd, mode, offset, length));
}

export function fsync(fd: number): number {
  return out(callL(nr.fsync, fd));
}

export function fdatasync(fd: number): number {
  return out(callL(nr.fdatasync, fd));
}

export function syncfs(fd: number): number {
  return out(callL(nr.syncfs, fd));
}

/** Begins to write a range of a file to disk, and waits for nothing (SYNC_FILE_RANGE_WRITE). */
export function startWriting(fd: number, offset: number, length: number): number {
  return out(callLLLL(nr.sync_file_range, fd, offset, length, 2));
}

export function copy_file_range(fromFd: number, toFd: number, length: number): number {
  return out(callLLLLLL(nr.copy_file_range, fromFd, 0, toFd, 0, length, 0));
}

const fromOffset = new BigInt64Array(1);
const toOffset = new BigInt64Array(1);
const fromOffsetBytes = new Uint8Array(fromOffset.buffer);
const toOffsetBytes = new Uint8Array(toOffset.buffer);
/** As copy_file_range, at given offsets, which leaves those of the descriptors alone. */
export function copyFileRangeAt(
  from: { readonly fd: number; readonly offset: number },
  to: { readonly fd: number; readonly offset: number },
  length: number,
): number {
  fromOffset[0] = BigInt(from.offset);
  toOffset[0] = BigInt(to.offset);
  return out(callLPLPLL(nr.copy_file_range, from.fd, fromOffsetBytes, to.fd, toOffsetBytes, length, 0));
}

/** ioctl(2) with a structure that the kernel reads and writes. `request`: an _IO* number of the driver in question. */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  return out(callLLP(nr.ioctl, fd, request, argument));
}

/**
 * ioctl(2) on one of libuv's threads, for requests that write to disk before they return. Its result, or -errno. The
 * descriptor must stay open until then.
 */
export function ioctlInThread(fd: number, request: number, argument: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    callLLPInThread(nr.ioctl, fd, request, argument, (error, result) => (error ? reject(error) : resolve(out(result))));
  });
}

/** ioctl(2) with a number for an argument. */
export function ioctlNumber(fd: number, request: number, argument: number): number {
  return out(callLLL(nr.ioctl, fd, request, argument));
}

/** Clones the whole of `fromFd` into `toFd` (reflink): ioctl(FICLONE). */
export function ficlone(toFd: number, fromFd: number): number {
  return ioctlNumber(toFd, C.FICLONE, fromFd);
}

export function mkdirat(dirfd: number, path: ByteString, mode: number): number {
  const bad = put(pathA, path);
  return bad || out(callLPL(nr.mkdirat, dirfd, pathA, mode));
}

/** `mode` includes the S_IF type; the device number is given in its two parts. */
export function mknodat(dirfd: number, path: ByteString, mode: number, devMajor: number, devMinor: number): number {
  const bad = put(pathA, path);
  if (bad) return bad;
  const dev =
    (devMinor & 0xff) + (devMajor & 0xfff) * 0x100 + (devMinor >>> 8) * 0x100000 + (devMajor >>> 12) * 2 ** 44;
  return out(callLPLL(nr.mknodat, dirfd, pathA, mode, dev));
}

export function symlinkat(target: ByteString, dirfd: number, path: ByteString): number {
  const bad = put(pathA, target) || put(pathB, path);
  return bad || out(callPLP(nr.symlinkat, pathA, dirfd, pathB));
}

export function linkat(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags = 0): number {
  const bad = put(pathA, from) || put(pathB, to);
  return bad || out(callLPLPL(nr.linkat, fromDirfd, pathA, toDirfd, pathB, flags));
}

export function renameat2(fromDirfd: number, from: ByteString, toDirfd: number, to: ByteString, flags = 0): number {
  const bad = put(pathA, from) || put(pathB, to);
  return bad || out(callLPLPL(nr.renameat2, fromDirfd, pathA, toDirfd, pathB, flags));
}

export function unlinkat(dirfd: number, path: ByteString, flags = 0): number {
  const bad = put(pathA, path);
  return bad || out(callLPL(nr.unlinkat, dirfd, pathA, flags));
}

export function fchownat(dirfd: number, path: ByteString, uid: number, gid: number, flags: number): number {
  const bad = put(pathA, path);
  return bad || out(callLPLLL(nr.fchownat, dirfd, pathA, uid, gid, flags));
}

export function fchown(fd: number, uid: number, gid: number): number {
  return out(callLLL(nr.fchown, fd, uid, gid));
}

export function fchmod(fd: number, mode: number): number {
  return out(callLL(nr.fchmod, fd, mode));
}

/** Follows a final symlink; callers make sure there is none, or use {@link fchmodat2}. */
export function fchmodat(dirfd: number, path: ByteString, mode: number): number {
  const bad = put(pathA, path);
  return bad || out(callLPL(nr.fchmodat, dirfd, pathA, mode));
}

/** fchmodat2(2) (Linux 6.6), which takes AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH. */
export function fchmodat2(dirfd: number, path: ByteString, mode: number, flags: number): number {
  const bad = put(pathA, path);
  return bad || out(callLPLL(nr.fchmodat2, dirfd, pathA, mode, flags));
}

const timespecs = new BigInt64Array(4);
const timespecBytes = new Uint8Array(timespecs.buffer);
/** Sets both times of `path` itself (never through a symlink); an empty path is `dirfd` itself. */
export function utimensat(
  dirfd: number,
  path: ByteString,
  atimeSec: number,
  atimeNsec: number,
  mtimeSec: number,
  mtimeNsec: number,
): number {
  timespecs[0] = BigInt(atimeSec);
  timespecs[1] = BigInt(atimeNsec);
  timespecs[2] = BigInt(mtimeSec);
  timespecs[3] = BigInt(mtimeNsec);
  if (path === "") return out(callLPPL(nr.utimensat, dirfd, null, timespecBytes, 0));
  const bad = put(pathA, path);
  return bad || out(callLPPL(nr.utimensat, dirfd, pathA, timespecBytes, C.AT_SYMLINK_NOFOLLOW));
}

const linkBuffer = Buffer.allocUnsafeSlow(4096);
/** The target as a byte string, or -errno. */
export function readlinkat(dirfd: number, path: ByteString): ByteString | number {
  const bad = put(pathA, path);
  if (bad) return bad;
  const n = out(callLPPL(nr.readlinkat, dirfd, pathA, linkBuffer, 4096));
  return n < 0 ? n : linkBuffer.toString("latin1", 0, n);
}

// ---- statx -----------------------------------------------------------------------------------------------------------

/** What statx(2) says of one object. Times are seconds and nanoseconds, sizes bytes, `blocks` units of 512 bytes. */
export interface Stat {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blocks: number;
  readonly inoLow: number;
  readonly inoHigh: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
}

const statWords = new Uint32Array(64);
const statBytes = new Uint8Array(statWords.buffer);
const statSigned = new Int32Array(statWords.buffer);

function decodeStat(): Stat {
  const w = statWords as unknown as { readonly [index: number]: number };
  const s = statSigned as unknown as { readonly [index: number]: number };
  return {
    mode: (w[7] as number) & 0xffff,
    nlink: w[4] as number,
    uid: w[5] as number,
    gid: w[6] as number,
    size: (w[10] as number) + (w[11] as number) * 4294967296,
    blocks: (w[12] as number) + (w[13] as number) * 4294967296,
    inoLow: w[8] as number,
    inoHigh: w[9] as number,
    devMajor: w[34] as number,
    devMinor: w[35] as number,
    rdevMajor: w[32] as number,
    rdevMinor: w[33] as number,
    mtimeSec: (w[28] as number) + (s[29] as number) * 4294967296,
    mtimeNsec: w[30] as number,
    ctimeSec: (w[24] as number) + (s[25] as number) * 4294967296,
    ctimeNsec: w[26] as number,
    atimeSec: (w[16] as number) + (s[17] as number) * 4294967296,
    atimeNsec: w[18] as number,
  };
}

/** lstat relative to `dirfd`; an empty path with AT_EMPTY_PATH is the descriptor itself. A Stat, or -errno. */
export function statx(dirfd: number, path: ByteString, flags: number = C.AT_SYMLINK_NOFOLLOW): Stat | number {
  const bad = put(pathA, path);
  if (bad) return bad;
  const r = callLPLLP(nr.statx, dirfd, pathA, flags | C.AT_NO_AUTOMOUNT, C.STATX_BASIC_STATS, statBytes);
  return r < 0 ? -errno() : decodeStat();
}

/** The mount ID of the object (STATX_MNT_ID, Linux 5.8), undefined where the kernel does not tell, or -errno. */
export function statxMountId(dirfd: number, path: ByteString, flags: number): number | undefined {
  const bad = put(pathA, path);
  if (bad) return bad;
  const r = callLPLLP(nr.statx, dirfd, pathA, flags, C.STATX_MNT_ID, statBytes);
  if (r < 0) return -errno();
  return ((statWords[0] ?? 0) & C.STATX_MNT_ID) !== 0 ? (statWords[36] ?? 0) : undefined;
}

/** Birth time as {sec, nsec}, undefined where the file system keeps none, or -errno. */
export function statxBirthTime(
  dirfd: number,
  path: ByteString,
  flags: number,
): { sec: number; nsec: number } | undefined | number {
  const bad = put(pathA, path);
  if (bad) return bad;
  const r = callLPLLP(nr.statx, dirfd, pathA, flags, C.STATX_BTIME, statBytes);
  if (r < 0) return -errno();
  if (((statWords[0] ?? 0) & C.STATX_BTIME) === 0) return undefined;
  return { sec: (statWords[20] ?? 0) + (statSigned[21] ?? 0) * 4294967296, nsec: statWords[22] ?? 0 };
}

/** The clock's time, or -errno. */
export function clock_gettime(clock: number): { sec: number; nsec: number } | number {
  const r = out(callLP(nr.clock_gettime, clock, timespecBytes));
  return r < 0 ? r : { sec: Number(timespecs[0]), nsec: Number(timespecs[1]) };
}

/** What name_to_handle_at(2) tells of an open object (O_PATH will do), or -errno. */
export function name_to_handle_at(fd: number): { readonly type: number; readonly bytes: Buffer } | number {
  const handle = Buffer.alloc(8 + 128);
  const mountId = Buffer.alloc(4);
  handle.writeUInt32LE(128, 0);
  put(pathA, "");
  const r = out(callLPPPL(nr.name_to_handle_at, fd, pathA, handle, mountId, C.AT_EMPTY_PATH));
  if (r < 0) return r;
  return { type: handle.readInt32LE(4), bytes: handle.subarray(8, 8 + handle.readUInt32LE(0)) };
}

/** The UUID of the file system of an open object (FS_IOC_GETFSUUID, Linux 6.9), or -errno. */
export function fileSystemUuid(fd: number): Buffer | number {
  const argument = Buffer.alloc(17);
  const r = ioctl(fd, 0x80111500, argument);
  return r < 0 ? r : argument.subarray(1, 17);
}

// ---- directories -----------------------------------------------------------------------------------------------------

/** One name of a directory. `type` is a DT_ constant, DT_UNKNOWN where the file system does not tell. */
export interface DirEntry {
  readonly name: ByteString;
  readonly type: number;
  readonly inoLow: number;
  readonly inoHigh: number;
}

const direntBuffer = Buffer.allocUnsafeSlow(128 * 1024);
/** Appends the next names of the open directory `fd` (without `.` and `..`) to `into`; 0 at the end, else > 0, or -errno. */
export function getdents64(fd: number, into: DirEntry[]): number {
  const n = out(callLPL(nr.getdents64, fd, direntBuffer, direntBuffer.length));
  for (let at = 0; at < n; ) {
    const reclen = (direntBuffer[at + 16] as number) | ((direntBuffer[at + 17] as number) << 8);
    const start = at + 19;
    let end = start;
    while (direntBuffer[end] !== 0) end++;
    const dot =
      direntBuffer[start] === 0x2e && (end === start + 1 || (end === start + 2 && direntBuffer[start + 1] === 0x2e));
    if (!dot) {
      into.push({
        name: direntBuffer.toString("latin1", start, end),
        type: direntBuffer[at + 18] as number,
        inoLow: direntBuffer.readUInt32LE(at),
        inoHigh: direntBuffer.readUInt32LE(at + 4),
      });
    }
    at += reclen;
  }
  return n;
}

// ---- extended attributes ---------------------------------------------------------------------------------------------
// Linux 6.13 has calls relative to a directory. Before, the path goes through /proc/self/fd, which names the same object.

const xattrBuffer = Buffer.allocUnsafeSlow(65536);
const xattrArgs = Buffer.alloc(16);
xattrArgs.writeBigUInt64LE(BigInt(koffi.address(xattrBuffer) as bigint), 0);

let haveXattrAt = ((): boolean => {
  put(pathA, "/");
  return callLPLPL(nr.listxattrat, C.AT_FDCWD, pathA, 0, null, 0) >= 0;
})();

/**
 * Says whether the calls relative to a directory are used, and changes it where `use` is given: what works on this kernel
 * can be tried as an older one would do it.
 */
export function usesXattrAt(use = haveXattrAt): boolean {
  const before = haveXattrAt;
  haveXattrAt = use;
  return before;
}

/** The path that names `path` beneath `dirfd` for calls that know no descriptors. */
function procPath(dirfd: number, path: ByteString): ByteString {
  if (dirfd === C.AT_FDCWD) return path;
  return path === "" ? `/proc/self/fd/${dirfd}` : `/proc/self/fd/${dirfd}/${path}`;
}

/**
 * The kernel allocates and clears as much as it is offered, which for all that an attribute can be takes longer than the rest
 * of the call. Almost all fit into this.
 */
const FIRST_OFFER = 512;

/** Makes a call that fills `xattrBuffer`, again with more room when there was too little. */
function offered(call: (room: number) => number): number {
  const n = out(call(FIRST_OFFER));
  return n === -ERANGE ? out(call(xattrBuffer.length)) : n;
}

function getxattrat(dirfd: number, room: number): number {
  xattrArgs.writeUInt32LE(room, 8);
  xattrArgs.writeUInt32LE(0, 12);
  return callLPLPPL(nr.getxattrat, dirfd, pathA, C.AT_SYMLINK_NOFOLLOW, keyBuffer, xattrArgs, 16);
}

/** The value of `name` on `path` itself (never through a symlink), or -errno. The path must not be empty. */
export function lgetxattrat(dirfd: number, path: ByteString, name: ByteString): Buffer | number {
  const badKey = put(keyBuffer, name);
  if (badKey) return badKey;
  const bad = put(pathA, haveXattrAt ? path : procPath(dirfd, path));
  if (bad) return bad;
  const n = haveXattrAt
    ? offered((room) => getxattrat(dirfd, room))
    : offered((room) => callPPPL(nr.lgetxattr, pathA, keyBuffer, xattrBuffer, room));
  return n < 0 ? n : Buffer.from(xattrBuffer.subarray(0, n));
}

export function fgetxattr(fd: number, name: ByteString): Buffer | number {
  const bad = put(keyBuffer, name);
  if (bad) return bad;
  const n = offered((room) => callLPPL(nr.fgetxattr, fd, keyBuffer, xattrBuffer, room));
  return n < 0 ? n : Buffer.from(xattrBuffer.subarray(0, n));
}

function splitNames(n: number): ByteString[] {
  if (n === 0) return [];
  return xattrBuffer.toString("latin1", 0, n - 1).split("\0");
}

/** The names of the extended attributes of `path` itself, in the kernel's order, or -errno. The path must not be empty. */
export function llistxattrat(dirfd: number, path: ByteString): ByteString[] | number {
  const bad = put(pathA, haveXattrAt ? path : procPath(dirfd, path));
  if (bad) return bad;
  const n = haveXattrAt
    ? offered((room) => callLPLPL(nr.listxattrat, dirfd, pathA, C.AT_SYMLINK_NOFOLLOW, xattrBuffer, room))
    : offered((room) => callPPL(nr.llistxattr, pathA, xattrBuffer, room));
  return n < 0 ? n : splitNames(n);
}

export function flistxattr(fd: number): ByteString[] | number {
  const n = offered((room) => callLPL(nr.flistxattr, fd, xattrBuffer, room));
  return n < 0 ? n : splitNames(n);
}

/** Sets an attribute of `path` itself (never through a symlink). The path must not be empty. */
export function lsetxattrat(dirfd: number, path: ByteString, name: ByteString, value: Uint8Array, flags = 0): number {
  const badKey = put(keyBuffer, name);
  if (badKey) return badKey;
  if (value.length > xattrBuffer.length) return -ERANGE;
  if (haveXattrAt) {
    const bad = put(pathA, path);
    if (bad) return bad;
    xattrBuffer.set(value);
    xattrArgs.writeUInt32LE(value.length, 8);
    xattrArgs.writeUInt32LE(flags, 12);
    return out(callLPLPPL(nr.setxattrat, dirfd, pathA, C.AT_SYMLINK_NOFOLLOW, keyBuffer, xattrArgs, 16));
  }
  const bad = put(pathA, procPath(dirfd, path));
  return bad || out(callPPPLL(nr.lsetxattr, pathA, keyBuffer, value, value.length, flags));
}

export function fsetxattr(fd: number, name: ByteString, value: Uint8Array, flags = 0): number {
  const bad = put(keyBuffer, name);
  return bad || out(callLPPLL(nr.fsetxattr, fd, keyBuffer, value, value.length, flags));
}

export function lremovexattrat(dirfd: number, path: ByteString, name: ByteString): number {
  const badKey = put(keyBuffer, name);
  if (badKey) return badKey;
  if (haveXattrAt) {
    const bad = put(pathA, path);
    return bad || out(callLPLP(nr.removexattrat, dirfd, pathA, C.AT_SYMLINK_NOFOLLOW, keyBuffer));
  }
  const bad = put(pathA, procPath(dirfd, path));
  return bad || out(callPP(nr.lremovexattr, pathA, keyBuffer));
}

export function fremovexattr(fd: number, name: ByteString): number {
  const bad = put(keyBuffer, name);
  return bad || out(callLP(nr.fremovexattr, fd, keyBuffer));
}

// ---- quotas ----------------------------------------------------------------------------------------------------------

/** quotactl(2) on the file system of an open file (Linux 5.14). `argument`: what the command reads or writes. */
export function quotactl_fd(fd: number, command: number, id: number, argument: Uint8Array): number {
  return out(callLLLP(nr.quotactl_fd, fd, command, id, argument));
}

/** quotactl(2) on the file system of a block device. */
export function quotactl(command: number, device: ByteString, id: number, argument: Uint8Array): number {
  const bad = put(pathA, device);
  return bad || out(callLPLP(nr.quotactl, command, pathA, id, argument));
}

// ---- mounts and namespaces -------------------------------------------------------------------------------------------

const mountData = Buffer.allocUnsafeSlow(8192);
const mountType = Buffer.allocUnsafeSlow(256);
/** mount(2). The kernel cuts `data` silently after 4095 bytes, so longer data answers -ENAMETOOLONG. */
export function mount(
  source: ByteString,
  target: ByteString,
  type: ByteString,
  flags: number,
  data: ByteString,
): number {
  if (data.length > 4095) return -ENAMETOOLONG;
  const bad = put(pathA, source) || put(pathB, target) || put(mountType, type) || put(mountData, data);
  return bad || out(callPPPLP(nr.mount, pathA, pathB, mountType, flags, mountData));
}

export function umount2(target: ByteString, flags: number): number {
  const bad = put(pathA, target);
  return bad || out(callPL(nr.umount2, pathA, flags));
}

export function fsopen(type: ByteString, flags: number): number {
  const bad = put(mountType, type);
  return bad || out(callPL(nr.fsopen, mountType, flags));
}

export function fsconfigString(fd: number, key: ByteString, value: ByteString): number {
  const bad = put(keyBuffer, key) || put(pathA, value);
  return bad || out(callLLPPL(nr.fsconfig, fd, C.FSCONFIG_SET_STRING, keyBuffer, pathA, 0));
}

export function fsconfigFlag(fd: number, key: ByteString): number {
  const bad = put(keyBuffer, key);
  return bad || out(callLLPPL(nr.fsconfig, fd, C.FSCONFIG_SET_FLAG, keyBuffer, null, 0));
}

/** FSCONFIG_SET_FD (for overlay layers since Linux 6.13). */
export function fsconfigFd(fd: number, key: ByteString, value: number): number {
  const bad = put(keyBuffer, key);
  return bad || out(callLLPPL(nr.fsconfig, fd, C.FSCONFIG_SET_FD, keyBuffer, null, value));
}

export function fsconfigCreate(fd: number): number {
  return out(callLLPPL(nr.fsconfig, fd, C.FSCONFIG_CMD_CREATE, null, null, 0));
}

export function fsmount(fd: number, flags: number, attributes: number): number {
  return out(callLLL(nr.fsmount, fd, flags, attributes));
}

export function move_mount(fromFd: number, from: ByteString, toFd: number, to: ByteString, flags: number): number {
  const bad = put(pathA, from) || put(pathB, to);
  return bad || out(callLPLPL(nr.move_mount, fromFd, pathA, toFd, pathB, flags));
}

export function open_tree(dirfd: number, path: ByteString, flags: number): number {
  const bad = put(pathA, path);
  return bad || out(callLPL(nr.open_tree, dirfd, pathA, flags));
}

const mountAttr = Buffer.alloc(32);
/** mount_setattr(2) (Linux 5.12): sets and clears MOUNT_ATTR_ flags and the propagation type. */
export function mount_setattr(
  dirfd: number,
  path: ByteString,
  flags: number,
  attr: { readonly set: number; readonly clear: number; readonly propagation: number },
): number {
  const bad = put(pathA, path);
  if (bad) return bad;
  mountAttr.fill(0);
  mountAttr.writeUInt32LE(attr.set, 0);
  mountAttr.writeUInt32LE(attr.clear, 8);
  mountAttr.writeUInt32LE(attr.propagation, 16);
  return out(callLPLPL(nr.mount_setattr, dirfd, pathA, flags, mountAttr, 32));
}

/** Applies to the calling thread alone (CLONE_NEWUSER needs a process with a single thread: -EINVAL in Node). */
export function unshare(flags: number): number {
  return out(callL(nr.unshare, flags));
}

export function setns(fd: number, type: number): number {
  return out(callLL(nr.setns, fd, type));
}

export function pivot_root(newRoot: ByteString, putOld: ByteString): number {
  const bad = put(pathA, newRoot) || put(pathB, putOld);
  return bad || out(callPP(nr.pivot_root, pathA, pathB));
}

export function chroot(path: ByteString): number {
  const bad = put(pathA, path);
  return bad || out(callP(nr.chroot, pathA));
}

/** Moves the whole process, or this thread alone after unshare(CLONE_FS). */
export function chdir(path: ByteString): number {
  const bad = put(pathA, path);
  return bad || out(callP(nr.chdir, pathA));
}

export function fchdir(fd: number): number {
  return out(callL(nr.fchdir, fd));
}

export function sethostname(name: ByteString): number {
  const bad = put(pathA, name);
  return bad || out(callPL(nr.sethostname, pathA, name.length));
}

export function prctl(option: number, a: number, b = 0, c = 0, d = 0): number {
  return out(callLLLLL(nr.prctl, option, a, b, c, d));
}

/** Supplementary groups of the calling thread alone; libc's function would change all threads. */
export function setgroups(groups: readonly number[]): number {
  const list = Buffer.alloc(Math.max(4, groups.length * 4));
  for (const [i, group] of groups.entries()) list.writeUInt32LE(group, i * 4);
  return out(callLP(nr.setgroups, groups.length, list));
}

/** The processors that the calling thread may run on, one bit each; the bytes of the set, or -errno. */
export function sched_getaffinity(into: Uint8Array): number {
  return out(callLLP(nr.sched_getaffinity, 0, into.length, into));
}

export function sched_setaffinity(processors: Uint8Array): number {
  return out(callLLP(nr.sched_setaffinity, 0, processors.length, processors));
}

/** Runs where nothing else wants to run. */
export const SCHED_IDLE = 5;
const noPriority = Buffer.alloc(4);
/** Sets the scheduling class of the calling thread, one that has no priorities within. */
export function sched_setscheduler(policy: number): number {
  return out(callLLP(nr.sched_setscheduler, 0, policy, noPriority));
}

/** User ids of the calling thread alone. */
export function setresuid(real: number, effective: number, saved: number): number {
  return out(callLLL(nr.setresuid, real, effective, saved));
}

/** Group ids of the calling thread alone. */
export function setresgid(real: number, effective: number, saved: number): number {
  return out(callLLL(nr.setresgid, real, effective, saved));
}

/** Marks every descriptor of the process from `first` on as closing at exec (Linux 5.11). */
export function closeRangeCloexec(first: number): number {
  return out(callLLL(nr.close_range, first, 0xffffffff, 4));
}

/** Brings the loopback interface of the calling thread's network namespace up. */
export function bringLoopbackUp(): number {
  const fd = out(callLLL(nr.socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */ | C.O_CLOEXEC, 0));
  if (fd < 0) return fd;
  const request = Buffer.alloc(40);
  request.write("lo", 0, "latin1");
  request.writeUInt16LE(0x41 /* IFF_UP | IFF_RUNNING */, 16);
  const r = ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, request);
  close(fd);
  return r;
}

export function umask(mask: number): number {
  return out(callL(nr.umask, mask));
}

/** The three capability sets of the calling thread as 64-bit masks, or -errno. */
export function capget(): { effective: bigint; permitted: bigint; inheritable: bigint } | number {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x20080522, 0);
  const data = Buffer.alloc(24);
  const r = out(callPP(nr.capget, header, data));
  if (r < 0) return r;
  const at = (i: number): bigint => BigInt(data.readUInt32LE(i)) | (BigInt(data.readUInt32LE(i + 12)) << 32n);
  return { effective: at(0), permitted: at(4), inheritable: at(8) };
}

/** Sets the capability sets of the calling thread. */
export function capset(sets: { effective: bigint; permitted: bigint; inheritable: bigint }): number {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x20080522, 0);
  const data = Buffer.alloc(24);
  const list = [sets.effective, sets.permitted, sets.inheritable];
  list.forEach((mask, i) => {
    data.writeUInt32LE(Number(mask & 0xffffffffn), i * 4);
    data.writeUInt32LE(Number(mask >> 32n), i * 4 + 12);
  });
  return out(callPP(nr.capset, header, data));
}

// ---- file systems and locks ------------------------------------------------------------------------------------------

/** What statfs(2) says. Sizes are in blocks of `blockSize` bytes. `type` is the file system's magic number. */
export interface StatFs {
  readonly type: number;
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameMax: number;
}

const statfsBuffer = Buffer.alloc(120);
export function statfs(path: ByteString): StatFs | number {
  const bad = put(pathA, path);
  if (bad) return bad;
  const r = out(callPP(nr.statfs, pathA, statfsBuffer));
  return r < 0 ? r : decodeStatFs();
}

function decodeStatFs(): StatFs {
  const at = (i: number): number => Number(statfsBuffer.readBigUInt64LE(i * 8));
  return {
    type: at(0),
    blockSize: at(1),
    blocks: at(2),
    blocksFree: at(3),
    blocksAvailable: at(4),
    files: at(5),
    filesFree: at(6),
    nameMax: at(8),
  };
}

export function flock(fd: number, operation: number): number {
  return out(callLL(nr.flock, fd, operation));
}

/** statfs(2) of the file system that holds an open file (an O_PATH descriptor will do). */
export function fstatfs(fd: number): StatFs | number {
  const r = out(callLP(nr.fstatfs, fd, statfsBuffer));
  return r < 0 ? r : decodeStatFs();
}

const flockBuffer = Buffer.alloc(32);
/** Open-file-description lock on a byte range (`length` 0: to the end): `command` F_OFD_SETLK or F_OFD_SETLKW. */
export function ofdLock(fd: number, command: number, type: number, start = 0, length = 0): number {
  flockBuffer.fill(0);
  flockBuffer.writeInt16LE(type, 0);
  flockBuffer.writeBigInt64LE(BigInt(start), 8);
  flockBuffer.writeBigInt64LE(BigInt(length), 16);
  return out(callLLP(nr.fcntl, fd, command, flockBuffer));
}

// ---- descriptors over sockets ----------------------------------------------------------------------------------------

/** A connected pair of Unix stream sockets, or -errno. */
export function socketpair(): readonly [number, number] | number {
  const pair = Buffer.alloc(8);
  const r = out(callLLLP(nr.socketpair, 1 /* AF_UNIX */, 1 /* SOCK_STREAM */ | C.O_CLOEXEC, 0, pair));
  return r < 0 ? r : [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/**
 * Ends the process at once, without waiting for its threads: one that waits for the kernel, or loads native code, can hold
 * up or crash the orderly end. Nothing is written out that is not written yet.
 */
export function exit_group(status: number): never {
  callL(nr.exit_group, status);
  throw new Error("exit_group returned");
}

/** Waits until there is something to read, or nobody is left to write: 1; 0 when that takes longer. */
export function waitReadable(fd: number, timeoutMs: number): number {
  const poll = Buffer.alloc(8);
  poll.writeInt32LE(fd, 0);
  poll.writeInt16LE(1 /* POLLIN */, 4);
  const time = Buffer.alloc(16);
  time.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0);
  time.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1_000_000), 8);
  return out(callPLPPL(nr.ppoll, poll, 1, time, null, 0));
}

/** Waits for a message that carries one descriptor (SCM_RIGHTS) and answers it, closing at exec; -ENODATA for one without. */
export function receiveFd(socket: number): number {
  const data = Buffer.alloc(8);
  const control = Buffer.alloc(24);
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(BigInt(koffi.address(data) as bigint), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  const header = Buffer.alloc(56);
  header.writeBigUInt64LE(BigInt(koffi.address(vector) as bigint), 16);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(koffi.address(control) as bigint), 32);
  header.writeBigUInt64LE(BigInt(control.length), 40);
  const r = out(callLPL(nr.recvmsg, socket, header, 0x40000000 /* MSG_CMSG_CLOEXEC */));
  if (r < 0) return r;
  const isRights = control.readUInt32LE(8) === 1 /* SOL_SOCKET */ && control.readUInt32LE(12) === 1; /* SCM_RIGHTS */
  return r > 0 && isRights && control.readUInt32LE(0) >= 20 ? control.readInt32LE(16) : -ENODATA;
}

/** True when the kernel knows `openat2` (Linux 5.6) and no filter forbids it. */
export const haveOpenat2 = ((): boolean => {
  const fd = openat2(C.AT_FDCWD, "/", C.O_PATH, 0, 0);
  if (fd >= 0) close(fd);
  return fd !== -ENOSYS && fd >= 0;
})();
