/**
 * What each opcode asks of the file system: its structure is read from the request, and the answer written to the reply. An
 * operation answers the length of the reply's body in bytes, or a negative errno.
 */
import * as C from "../sys/constants.ts";
import type { Answer, Changes, Creation, Entry, FileSystem } from "./file-system.ts";
import * as P from "./protocol.ts";
import { decodeDevice, type Reply } from "./reply.ts";
import type { Request } from "./request.ts";

const ENOENT = 2;
const ENOSYS = 38;
const ENODATA = 61;
const ERANGE = 34;
const E2BIG = 7;

/** The longest list of names, and value, of extended attributes (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const XATTR_MAX = 65536;

/** Of one COPY_FILE_RANGE: its answer has 32 bits, and others wait meanwhile. */
const LONGEST_COPY = 1 << 30;

type Operation = (fs: FileSystem, request: Request, reply: Reply) => number;

/** The body of an answer that has one, or the errno. `undefined` comes from a method that is missing. */
function told<T>(answer: Answer<T> | undefined, write: (value: T) => number): number {
  if (answer === undefined) return -ENOSYS;
  return typeof answer === "number" ? answer : write(answer);
}

/** For answers that are a success or an errno. */
function done(answer: number | undefined): number {
  return answer === undefined ? -ENOSYS : Math.min(0, answer);
}

function entry(reply: Reply, answer: Answer<Entry> | undefined): number {
  return told(answer, (value) => reply.entry(value));
}

function newFile(request: Request): Creation & { readonly flags: number } {
  return { mode: C.S_IFREG | request.u32(4), umask: request.u32(8), caller: request, flags: request.u32(0) };
}

function changes(request: Request): Changes {
  const valid = request.u32(0);
  const given = <T>(bit: number, value: () => T): T | undefined => ((valid & bit) === 0 ? undefined : value());
  const time = (bit: number, now: number, at: number, nsecAt: number): readonly [number, number] | undefined =>
    given(bit, () => ((valid & now) === 0 ? [request.i64(at), request.u32(nsecAt)] : [0, C.UTIME_NOW]));
  return {
    mode: given(P.FATTR_MODE, () => request.u32(68)),
    uid: given(P.FATTR_UID, () => request.u32(76)),
    gid: given(P.FATTR_GID, () => request.u32(80)),
    size: given(P.FATTR_SIZE, () => request.u64(16)),
    atime: time(P.FATTR_ATIME, P.FATTR_ATIME_NOW, 32, 56),
    mtime: time(P.FATTR_MTIME, P.FATTR_MTIME_NOW, 40, 60),
    killPrivileges: (valid & P.FATTR_KILL_SUIDGID) !== 0 ? request : undefined,
    handle: given(P.FATTR_FH, () => request.u64(8)),
  };
}

/** Attributes are first asked how long they are (`size` 0), then for themselves. */
function sized(length: number, size: number, reply: Reply, write: () => void): number {
  if (length > XATTR_MAX) return -E2BIG;
  if (size === 0) {
    reply.u64(0, length);
    return 8;
  }
  if (length > size) return -ERANGE;
  write();
  return length;
}

function rename(fs: FileSystem, request: Request, namesAt: number, flags: number): number {
  const name = request.name(namesAt);
  const newName = request.name(namesAt + name.length + 1);
  return done(fs.rename?.({ parent: request.node, name }, { parent: request.u64(0), name: newName }, flags));
}

function readdir(fs: FileSystem, request: Request, reply: Reply, plus: boolean): number {
  const sink = reply.directory(request.u32(16), plus);
  const result = fs.readdir?.(request.node, request.u64(8), sink) ?? -ENOSYS;
  return result < 0 ? result : sink.length;
}

function read(fs: FileSystem, request: Request, reply: Reply): number {
  const size = Math.min(request.u32(16), reply.body.length);
  return fs.read?.(request.u64(0), reply.body.subarray(0, size), request.u64(8)) ?? -ENOSYS;
}

function write(fs: FileSystem, request: Request, reply: Reply): number {
  const size = request.u32(16);
  const killPrivileges = (request.u32(20) & P.FUSE_WRITE_KILL_SUIDGID) !== 0 ? request : undefined;
  const at = { offset: request.u64(8), killPrivileges };
  const written = fs.write?.(request.u64(0), request.data(40, size), at) ?? -ENOSYS;
  if (written < 0) return written;
  reply.u64(0, written);
  return 8;
}

function lookup(fs: FileSystem, request: Request, reply: Reply): number {
  const answer = fs.lookup(request.node, request.name(0));
  return answer === -ENOENT ? reply.missing() : entry(reply, answer);
}

function getxattr(fs: FileSystem, request: Request, reply: Reply): number {
  if (!fs.getxattr) return -ENOSYS;
  const value = fs.getxattr(request.node, request.name(8));
  if (value === undefined) return -ENODATA;
  if (typeof value === "number") return value;
  return sized(value.length, request.u32(0), reply, () => reply.body.set(value));
}

function listxattr(fs: FileSystem, request: Request, reply: Reply): number {
  return told(fs.listxattr?.(request.node), (names) => {
    const list = names.map((name) => `${name}\0`).join("");
    return sized(list.length, request.u32(0), reply, () => void reply.body.write(list, 0, "latin1"));
  });
}

function setxattr(fs: FileSystem, request: Request): number {
  const name = request.name(16);
  const value = request.data(16 + name.length + 1, request.u32(0));
  const killSetgid = (request.u32(8) & P.FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  return done(fs.setxattr?.(request.node, name, { value, flags: request.u32(4), killSetgid }));
}

function lseek(fs: FileSystem, request: Request, reply: Reply): number {
  const offset = fs.lseek?.(request.u64(0), request.u64(8), request.u32(16)) ?? -ENOSYS;
  if (offset < 0) return offset;
  reply.u64(0, offset);
  return 8;
}

function copyRange(fs: FileSystem, request: Request, reply: Reply): number {
  const from = { handle: request.u64(0), offset: request.u64(8) };
  const to = { handle: request.u64(24), offset: request.u64(32) };
  const length = Math.min(request.u64(40), LONGEST_COPY);
  const copied = fs.copyRange?.(from, to, length) ?? -ENOSYS;
  if (copied < 0) return copied;
  reply.u64(0, copied);
  return 8;
}

/** Asked for where someone wants to know when a file was made; without an answer the kernel asks for attributes alone. */
function statx(fs: FileSystem, request: Request, reply: Reply): number {
  if (!fs.birthTime) return -ENOSYS;
  const handle = (request.u32(0) & P.FUSE_GETATTR_FH) === 0 ? undefined : request.u64(8);
  return told(fs.getattr(request.node, handle), (stat) =>
    reply.extended(request.node, stat, fs.birthTime?.(request.node)),
  );
}

/**
 * The operations that are answered, by opcode. After ENOSYS for OPENDIR the kernel (7.29) opens and releases no directory any
 * more, and keeps listings as by FOPEN_KEEP_CACHE and FOPEN_CACHE_DIR.
 */
export const operations: readonly (Operation | undefined)[] = byOpcode([
  [P.op.LOOKUP, lookup],
  [
    P.op.GETATTR,
    (fs, request, reply) => {
      const handle = (request.u32(0) & P.FUSE_GETATTR_FH) === 0 ? undefined : request.u64(8);
      return told(fs.getattr(request.node, handle), (stat) => reply.attributes(request.node, stat));
    },
  ],
  [
    P.op.SETATTR,
    (fs, request, reply) =>
      told(fs.setattr?.(request.node, changes(request)), (stat) => reply.attributes(request.node, stat)),
  ],
  [
    P.op.READLINK,
    (fs, request, reply) => told(fs.readlink?.(request.node), (target) => reply.body.write(target, 0, "latin1")),
  ],
  [
    P.op.SYMLINK,
    (fs, request, reply) => {
      const name = request.name(0);
      const how = { target: request.name(name.length + 1), caller: request };
      return entry(reply, fs.symlink?.(request.node, name, how));
    },
  ],
  [
    P.op.MKNOD,
    (fs, request, reply) => {
      const device = decodeDevice(request.u32(4));
      const how = { mode: request.u32(0), umask: request.u32(8), caller: request, device };
      return entry(reply, fs.mknod?.(request.node, request.name(16), how));
    },
  ],
  [
    P.op.MKDIR,
    (fs, request, reply) => {
      const how = { mode: C.S_IFDIR | request.u32(0), umask: request.u32(4), caller: request };
      return entry(reply, fs.mkdir?.(request.node, request.name(8), how));
    },
  ],
  [P.op.UNLINK, (fs, request) => done(fs.unlink?.(request.node, request.name(0)))],
  [P.op.RMDIR, (fs, request) => done(fs.rmdir?.(request.node, request.name(0)))],
  [P.op.RENAME, (fs, request) => rename(fs, request, 8, 0)],
  [P.op.RENAME2, (fs, request) => rename(fs, request, 16, request.u32(8))],
  [P.op.LINK, (fs, request, reply) => entry(reply, fs.link?.(request.u64(0), request.node, request.name(8)))],
  [
    P.op.OPEN,
    (fs, request, reply) => {
      const killPrivileges = (request.u32(4) & P.FUSE_OPEN_KILL_SUIDGID) !== 0 ? request : undefined;
      return told(fs.open?.(request.node, request.u32(0), { killPrivileges }), (opened) => reply.opened(opened));
    },
  ],
  [
    P.op.CREATE,
    (fs, request, reply) => {
      const how = newFile(request);
      return told(fs.create?.(request.node, request.name(16), how), (created) => reply.created(created));
    },
  ],
  [
    P.op.TMPFILE,
    (fs, request, reply) => {
      const how = newFile(request);
      return told(fs.tmpfile?.(request.node, how), (created) => reply.created(created));
    },
  ],
  [P.op.READ, read],
  [P.op.WRITE, write],
  [P.op.STATFS, (fs, _request, reply) => told(fs.statfs?.(), (stat) => reply.statfs(stat))],
  [
    P.op.RELEASE,
    (fs, request) => {
      fs.release?.(request.u64(0));
      return 0;
    },
  ],
  [P.op.FLUSH, (fs, request) => done(fs.flush?.(request.u64(0)))],
  [
    P.op.FSYNC,
    (fs, request) => done(fs.fsync?.(request.u64(0), { dataOnly: (request.u32(8) & P.FUSE_FSYNC_FDATASYNC) !== 0 })),
  ],
  [P.op.SYNCFS, (fs) => done(fs.syncfs?.())],
  [P.op.SETXATTR, setxattr],
  [P.op.GETXATTR, getxattr],
  [P.op.LISTXATTR, listxattr],
  [P.op.REMOVEXATTR, (fs, request) => done(fs.removexattr?.(request.node, request.name(0)))],
  [P.op.READDIR, (fs, request, reply) => readdir(fs, request, reply, false)],
  [P.op.READDIRPLUS, (fs, request, reply) => readdir(fs, request, reply, true)],
  [P.op.FSYNCDIR, (fs, request) => done(fs.fsyncdir?.(request.node))],
  [
    P.op.FALLOCATE,
    (fs, request) => {
      // The protocol has no flag for it here: who is not root may not keep set-id bits.
      const killPrivileges = request.uid !== 0 ? request : undefined;
      const range = { offset: request.u64(8), length: request.u64(16), mode: request.u32(24), killPrivileges };
      return done(fs.fallocate?.(request.u64(0), range));
    },
  ],
  [P.op.LSEEK, lseek],
  [P.op.COPY_FILE_RANGE, copyRange],
  // The same, with an answer of 64 bits.
  [P.op.COPY_FILE_RANGE_64, copyRange],
  [P.op.STATX, statx],
]);

function byOpcode(table: readonly (readonly [number, Operation])[]): readonly (Operation | undefined)[] {
  const list: (Operation | undefined)[] = [];
  for (const [opcode, operation] of table) list[opcode] = operation;
  return list;
}

/** Gives loans of one node, or of many, back. */
export function forget(fs: FileSystem, request: Request): void {
  if (request.opcode === P.op.FORGET) {
    fs.forget(request.node, request.u64(0));
    return;
  }
  const count = request.u32(0);
  for (let i = 0; i < count; i++) fs.forget(request.u64(8 + i * 16), request.u64(16 + i * 16));
}
