/**
 * Changes of metadata, and extended attributes. All of them act on the object itself beneath an open directory of the upper
 * layer: nothing follows a symbolic link of the view, which would lead into the host.
 */
import { readFileSync } from "node:fs";
import { hasCode, SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { visibleXattrName } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Caller, Changes, Owner, XattrChange } from "../file-system.ts";
import { copyUp } from "./copy-up.ts";
import type { Node } from "./node.ts";
import { writeRecord } from "./records.ts";
import type { At, Union } from "./union.ts";

const EPERM = 1;
const ENODATA = 61;
const EOPNOTSUPP = 95;

const omitted = [0, C.UTIME_OMIT] as const;
const accessAcl = "system.posix_acl_access";

function must(call: string, result: number): void {
  if (result < 0) throw new SyscallError(call, -result);
}

function flagsOf([, name]: At): number {
  return name === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW;
}

/** `openFd`: of the file through which the size is to be changed, open for writing. */
export function changeAttributes(union: Union, node: Node, changes: Changes, openFd: number | undefined): void {
  const { mode, uid, gid, size, atime, mtime } = changes;
  copyUp(union, node, size === undefined ? "metadata" : size === 0 ? "no-data" : "all");
  const at = union.at(node);
  if (uid !== undefined || gid !== undefined)
    changeOwner(union, at, union.diskOwner({ uid: uid ?? -1, gid: gid ?? -1 }));
  if (mode !== undefined) changeMode(union, at, mode);
  if (size !== undefined) resize(at, size, openFd);
  if (changes.killPrivileges) dropPrivileges(union, node, changes.killPrivileges);
  if (atime !== undefined || mtime !== undefined)
    must("utimensat", raw.utimensat(...at, ...(atime ?? omitted), ...(mtime ?? omitted)));
}

function changeOwner(union: Union, at: At, { uid, gid }: Owner): void {
  if (union.record !== undefined) {
    const before = union.statAt(at);
    const kept = (before.mode & C.S_IFMT) === C.S_IFREG ? ~(0o4000 | ((before.mode & 0o010) !== 0 ? 0o2000 : 0)) : ~0;
    const owner = { uid: uid < 0 ? before.uid : uid, gid: gid < 0 ? before.gid : gid, mode: before.mode & kept };
    if (writeRecord(at, union.record, owner)) return;
  }
  must("fchownat", raw.fchownat(...at, uid, gid, flagsOf(at)));
}

function changeMode(union: Union, at: At, mode: number): void {
  if (union.record !== undefined && writeRecord(at, union.record, { ...union.statAt(at), mode })) return;
  sys.lchmodat(...at, mode & 0o7777);
}

function resize([fd, name]: At, size: number, openFd: number | undefined): void {
  if (openFd !== undefined) {
    sys.ftruncate(openFd, size);
    return;
  }
  const path: At = name === "" ? [C.AT_FDCWD, `/proc/self/fd/${fd}`] : [fd, name];
  const nofollow = name === "" ? 0 : C.O_NOFOLLOW;
  using file = new sys.OwnedFd(sys.openat(...path, C.O_WRONLY | nofollow | C.O_NONBLOCK));
  sys.ftruncate(file.fd, size);
}

/** Clears the set-id bits of a file; that of its group where the group may execute it, or the writer is not in the group. */
export function dropPrivileges(union: Union, node: Node, writer: Caller): void {
  const at = union.at(node);
  const { mode, gid } = union.statAt(at);
  if ((mode & C.S_IFMT) !== C.S_IFREG || (mode & 0o6000) === 0) return;
  const staysOfGroup = (mode & 0o2010) === 0o2000 && isMember(union, writer, gid);
  const cleared = mode & ~(C.S_IFMT | 0o4000 | (staysOfGroup ? 0 : 0o2000));
  if (cleared !== (mode & 0o7777)) changeMode(union, at, cleared);
}

/** `gid`: as it is stored. A process that has ended, or is not seen from here, has its first group alone. */
function isMember(union: Union, { uid, gid: own, pid }: Caller, gid: number): boolean {
  const stored = (id: number): number => union.diskOwner({ uid, gid: id }).gid;
  if (stored(own) === gid) return true;
  try {
    const groups = /^Groups:(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "";
    return groups
      .trim()
      .split(/\s+/)
      .some((id) => id !== "" && stored(Number(id)) === gid);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return false;
    throw error;
  }
}

/** An attribute's name as it is stored: those that look like overlay's own are escaped. */
function storedName(union: Union, name: ByteString): ByteString {
  const { prefix } = union.options;
  return name.startsWith(prefix) ? `${prefix}overlay.${name.slice(prefix.length)}` : name;
}

/** Records are not the objects' own, and an ACL would change the mode of the inode. */
function refuseRecord(union: Union, name: ByteString): void {
  if (union.record === undefined) return;
  if (name === union.record) throw new SyscallError("setxattr", EPERM);
  if (name.startsWith("system.posix_acl_")) throw new SyscallError("setxattr", EOPNOTSUPP);
}

export function getAttribute(union: Union, node: Node, name: ByteString): Uint8Array | undefined {
  if (name === union.record) return undefined;
  const stored = storedName(union, name);
  if (!node.upper) return node.lower && union.layer(node.lower.layer).getxattr(node.lower.path, stored);
  const [fd, own] = union.at(node);
  return own === "" ? sys.fgetxattr(fd, stored) : sys.lgetxattrat(fd, own, stored);
}

export function listAttributes(union: Union, node: Node): ByteString[] {
  return storedNames(union, node)
    .filter((name) => name !== union.record)
    .map((name) => visibleXattrName(name, union.options.prefix))
    .filter((name) => name !== undefined);
}

function storedNames(union: Union, node: Node): readonly ByteString[] {
  if (!node.upper) return node.lower ? union.layer(node.lower.layer).listxattr(node.lower.path) : [];
  const [fd, own] = union.at(node);
  if (own !== "") return sys.llistxattrat(fd, own);
  const names = raw.flistxattr(fd);
  return typeof names === "number" ? [] : names;
}

export function setAttribute(union: Union, node: Node, name: ByteString, change: XattrChange): void {
  refuseRecord(union, name);
  copyUp(union, node, "metadata");
  const at = union.at(node);
  const [fd, own] = at;
  const stored = storedName(union, name);
  const { value, flags } = change;
  if (own === "") sys.fsetxattr(fd, stored, value, flags);
  else must("setxattr", raw.lsetxattrat(fd, own, stored, value, flags));
  if (change.killSetgid && name === accessAcl) {
    const { mode } = union.statAt(at);
    if ((mode & 0o2000) !== 0) changeMode(union, at, mode & 0o5777);
  }
}

/** Errors: SyscallError ENODATA when there is none of that name, before anything is copied up. */
export function removeAttribute(union: Union, node: Node, name: ByteString): void {
  refuseRecord(union, name);
  if (getAttribute(union, node, name) === undefined) throw new SyscallError("removexattr", ENODATA);
  copyUp(union, node, "metadata");
  const [fd, own] = union.at(node);
  const stored = storedName(union, name);
  must("removexattr", own === "" ? raw.fremovexattr(fd, stored) : raw.lremovexattrat(fd, own, stored));
}
