/**
 * The contract between the protocol server (./session.ts) and a file system that it serves.
 *
 * The kernel knows objects by *node IDs* that the file system chooses; the root is 1. Every answer that carries an Entry
 * lends the node to the kernel once more, and `forget` gives a number of such loans back. A node must keep its ID, and an
 * ID must keep its meaning, while any loan is out, also after the object's last name is gone. Opened files are known by
 * *handles*, numbers that the file system chooses, from `open`, `create` and `tmpfile` until `release`, of which there is one
 * for each. Directories are not opened: they are read by their node, and the kernel keeps what it has read until something
 * is changed in one through the mount, or it is told of another time of modification.
 *
 * Calls come one after another from one thread, and must not touch the mount themselves: that waits for itself. A call
 * answers its result, or a negative errno (the number 0 where there is no result), as src/sys/raw.ts does. What is thrown is
 * answered too: a SyscallError as its errno, anything else as EIO. A method that is missing is answered with ENOSYS.
 *
 * Permissions are the kernel's business (`default_permissions`): the file system does what it is asked. The caller is told
 * where the owner of a new object depends on it. The umask is not applied yet, as a directory's default ACL overrules it.
 *
 * Names are byte strings without `/` and NUL, never `.` or `..`, of any length: ENAMETOOLONG is the file system's to answer.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { Stat, StatFs } from "../sys/syscalls.ts";
import type { SlowCall } from "./slow-calls.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Who asks. The object is the session's, and holds for the call alone. */
export interface Caller extends Owner {
  /** The thread; 0 where it is the kernel, or of another PID namespace. */
  readonly pid: number;
}

/** An object lent to the kernel. Its inode number as seen in the mount is that of `stat`. */
export interface Entry {
  readonly node: number;
  readonly stat: Stat;
}

export interface Opened {
  readonly handle: number;
  /** FOPEN_ flags of ./protocol.ts. */
  readonly flags: number;
  /** With FOPEN_PASSTHROUGH: what `Kernel.openBacking` answered. */
  readonly backing?: number;
}

/** What a new object shall be. */
export interface Creation {
  /** With the S_IF type. */
  readonly mode: number;
  readonly umask: number;
  readonly caller: Caller;
}

/** Who changes a file so that its set-id bits (and capabilities) are to go, as POSIX has it; undefined: they stay. */
export type Writer = Caller | undefined;

/** What SETATTR changes; what is undefined stays. Times are seconds and nanoseconds (or UTIME_NOW). */
export interface Changes {
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly size: number | undefined;
  readonly atime: readonly [number, number] | undefined;
  readonly mtime: readonly [number, number] | undefined;
  readonly killPrivileges: Writer;
  /** The open file through which it was asked. */
  readonly handle: number | undefined;
}

/** Takes the entries of a directory. */
export interface DirectorySink {
  /** Each name is to come with its Entry (READDIRPLUS), by `addEntry`. */
  readonly plus: boolean;
  /** False when a name has no place any more: what has been added so far is the answer. */
  fits(name: ByteString): boolean;
  /** `offset` is where reading goes on after this entry; `type` a DT_ constant. */
  add(name: ByteString, offset: number, type: number, stat: Pick<Stat, "inoLow" | "inoHigh">): void;
  /** As `add`, and lends the node to the kernel. */
  addEntry(name: ByteString, offset: number, entry: Entry): void;
}

/** Answered by `read` and `fsync` in place of a result, when another thread will tell the kernel. No errno is as low. */
export const LATER = -65536;

/** The most that `Kernel.store` takes, in bytes. */
export const STORE_MAX = 64 * 1024;

/** What the file system may ask of the kernel once it is mounted. */
export interface Kernel {
  /** True when opened files can be passed through: the kernel then reads and writes them without asking. */
  readonly passthrough: boolean;
  /** Registers an open file for passthrough; its ID (> 0), or a negative errno. */
  openBacking(fd: number): number;
  closeBacking(id: number): void;
  /**
   * Has another thread make a call that may wait for the disk, and answer with its result. LATER, which is then to be
   * answered here; undefined where there is no such thread, or too much waits for it already.
   */
  later(call: SlowCall): typeof LATER | undefined;
  /**
   * Puts the whole content of a file of at most STORE_MAX bytes, read from `fd`, into the kernel's cache: it need not ask for
   * it, nor for the access time that asking would change.
   */
  store(node: number, fd: number): void;
  /** The kernel is to ask anew for the attributes of a node, which have changed by what was asked of another one. */
  attributesChanged(node: number): void;
}

/** Result, or a negative errno. */
export type Answer<T> = T | number;

export interface FileSystem {
  /** How long the kernel may keep names and attributes without asking again. */
  readonly validSec: number;
  /** The session has begun. */
  mounted?(kernel: Kernel): void;
  lookup(parent: number, name: ByteString): Answer<Entry>;
  forget(node: number, count: number): void;
  getattr(node: number, handle: number | undefined): Answer<Stat>;
  /** True for a file that may change without being asked for by this ID: the kernel is not to keep its attributes. */
  isStale?(node: number): boolean;
  setattr?(node: number, changes: Changes): Answer<Stat>;
  readlink?(node: number): Answer<ByteString>;
  /** Everything but directories and symbolic links. `device`: major and minor. */
  mknod?(
    parent: number,
    name: ByteString,
    how: Creation & { readonly device: readonly [number, number] },
  ): Answer<Entry>;
  mkdir?(parent: number, name: ByteString, how: Creation): Answer<Entry>;
  symlink?(
    parent: number,
    name: ByteString,
    how: { readonly target: ByteString; readonly caller: Caller },
  ): Answer<Entry>;
  link?(node: number, parent: number, name: ByteString): Answer<Entry>;
  unlink?(parent: number, name: ByteString): number;
  rmdir?(parent: number, name: ByteString): number;
  /** `flags`: RENAME_ flags of renameat2(2). */
  rename?(from: DirectoryName, to: DirectoryName, flags: number): number;
  /** `flags`: those of open(2). */
  open?(node: number, flags: number, how: { readonly killPrivileges: Writer }): Answer<Opened>;
  create?(parent: number, name: ByteString, how: Creation & { readonly flags: number }): Answer<Entry & Opened>;
  /** An open file without a name. */
  tmpfile?(parent: number, how: Creation & { readonly flags: number }): Answer<Entry & Opened>;
  /** Fills `into` from `offset` on; the bytes read, fewer only at the end of the file; or LATER. */
  read?(handle: number, into: Uint8Array, offset: number): number;
  /** The bytes written. */
  write?(handle: number, from: Uint8Array, at: { readonly offset: number; readonly killPrivileges: Writer }): number;
  /** One of the descriptors of an open file is closed. */
  flush?(handle: number): number;
  release?(handle: number): void;
  /** May answer LATER. */
  fsync?(handle: number, how: { readonly dataOnly: boolean }): number;
  /**
   * Adds what follows `offset`: 0, or that of an entry added before, at any time and to whomever; nothing at the end. An
   * offset must stay good while names come and go: names that stay are neither left out nor repeated.
   */
  readdir?(node: number, offset: number, sink: DirectorySink): number;
  fsyncdir?(node: number): number;
  statfs?(): Answer<StatFs>;
  syncfs?(): number;
  /** The value, undefined when there is none of that name. */
  getxattr?(node: number, name: ByteString): Answer<Uint8Array | undefined>;
  listxattr?(node: number): Answer<readonly ByteString[]>;
  setxattr?(node: number, name: ByteString, how: XattrChange): number;
  removexattr?(node: number, name: ByteString): number;
  fallocate?(
    handle: number,
    range: { readonly mode: number; readonly offset: number; readonly length: number },
  ): number;
  /** Copies within the file system; the bytes copied. EXDEV and EOPNOTSUPP let the kernel read and write instead. */
  copyRange?(from: FilePosition, to: FilePosition, length: number): number;
  /** When an object was made, in seconds and nanoseconds; undefined where that is not known. */
  birthTime?(node: number): readonly [number, number] | undefined;
  /** SEEK_DATA and SEEK_HOLE alone. */
  lseek?(handle: number, offset: number, whence: number): number;
}

export interface DirectoryName {
  readonly parent: number;
  readonly name: ByteString;
}

export interface FilePosition {
  readonly handle: number;
  /** In bytes. */
  readonly offset: number;
}

/** What fallocate(2) is asked for, in bytes. */
export interface Allocation {
  readonly mode: number;
  readonly offset: number;
  readonly length: number;
  readonly killPrivileges: Writer;
}

export interface XattrChange {
  readonly value: Uint8Array;
  /** XATTR_CREATE or XATTR_REPLACE. */
  readonly flags: number;
  /** An access ACL is set by one who may not keep the set-group-id bit. */
  readonly killSetgid: boolean;
}
