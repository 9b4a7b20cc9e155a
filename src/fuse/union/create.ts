/**
 * New objects. Where the upper layer has nothing of the name, an object is made in place: its parent's default ACL and
 * set-group-id bit, and the caller's umask, then count as the kernel counts them. Over a whiteout it is made in the work
 * directory, beneath a directory that is like the parent in these, and takes the whiteout's place by one rename; a directory
 * is marked opaque first, as what the whiteout hid would show through.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Owner } from "../file-system.ts";
import { copyUp, linkOpen, markImpure } from "./copy-up.ts";
import type { Node } from "./node.ts";
import { recordNew } from "./records.ts";
import type { At, Union } from "./union.ts";
import { useUmask } from "./use-umask.ts";
import { isWhiteout, unhide } from "./whiteouts.ts";

const ENOENT = 2;
const EEXIST = 17;
const EINVAL = 22;
const opaqueValue = Buffer.from("y");
const defaultAcl = "system.posix_acl_default";

/** A new object: its S_IF type, whose it is, and how it is made; `make` answers a result ≥ 0 or a negative errno. */
export interface Making {
  readonly type: number;
  readonly umask: number;
  readonly caller: Owner;
  readonly make: (directory: number, name: ByteString) => number;
}

const ownUid = process.geteuid?.();
const ownGid = process.getegid?.();

/** The directory in the upper layer in which something is about to be made. Errors: SyscallError ENOENT when it was removed. */
export function directoryFor(union: Union, parent: Node): number {
  if (parent.isRemoved) throw new SyscallError("openat", ENOENT);
  copyUp(union, parent);
  return union.writable.directory(parent);
}

/** Makes an object; its node, and what `make` answered (a descriptor). Errors: SyscallError. */
export function createObject(union: Union, parent: Node, name: ByteString, asked: Making): [Node, number] {
  const what =
    union.options.users || union.options.groups ? { ...asked, caller: union.diskOwner(asked.caller) } : asked;
  const directory = directoryFor(union, parent);
  const at: At = [directory, name];
  useUmask(what.umask);
  const wasHidden = unhide(union, directory, name);
  let result = what.make(directory, name);
  if (result === -EEXIST && isWhiteout(union, at)) result = makeOverWhiteout(union, parent, at, what);
  else if (result >= 0) {
    giveToCaller(union, at, what.caller, { fd: directory, parent });
    if (what.type === C.S_IFDIR && wasHidden) sys.lsetxattrat(...at, union.mark("opaque"), opaqueValue);
    else if (what.type === C.S_IFDIR && parent.parts.length > 1) spareLookups(union, at);
  }
  if (result < 0) throw new SyscallError("create", -result);
  return [adopt(union, parent, name, what.type), result];
}

/**
 * Nothing lies below a new directory: lookups in it need not see for themselves. That this cannot be set does no harm. As with
 * the kernel, without any of these features layers below may be changed while nothing is mounted, and are to show through.
 */
function spareLookups(union: Union, at: At): void {
  if (union.options.redirectDir || union.options.metacopy) raw.lsetxattrat(...at, union.mark("opaque"), opaqueValue);
}

/** The node of an object that has just been made in the upper layer. */
function adopt(union: Union, parent: Node, name: ByteString, type: number): Node {
  const stat = union.statAt([union.writable.directory(parent), name]);
  const ino = union.inodeNumber(stat);
  const node = union.nodes.add({ type, ino, upper: true, parts: [], lower: undefined, data: undefined });
  if (type === C.S_IFDIR) node.parts.push(union.nodes.upperPart(node.id));
  else union.nodes.setUpperKey(node, stat);
  union.nodes.addName(node, parent, name);
  union.see(node, stat);
  return node;
}

/** What was made belongs to this process's user, or by the set-group-id bit to the directory's group. */
function giveToCaller(
  union: Union,
  at: At,
  { uid, gid }: Owner,
  directory: { readonly fd: number; readonly parent: Node },
): void {
  if (union.record !== undefined) {
    recordNew(at, union.record, { uid, gid }, union.statAt(union.at(directory.parent)));
    return;
  }
  const [fd, name] = at;
  if (uid === ownUid && gid === ownGid) return;
  const stat = sys.statx(fd, name);
  const inherits = stat.gid !== gid && (sys.fstat(directory.fd).mode & 0o2000) !== 0;
  const wantedGid = inherits ? stat.gid : gid;
  if (stat.uid === uid && stat.gid === wantedGid) return;
  sys.lchownat(fd, name, uid, wantedGid);
  // chown has cleared them.
  if ((stat.mode & 0o6000) !== 0 && (stat.mode & C.S_IFMT) === C.S_IFREG) sys.lchmodat(fd, name, stat.mode & 0o7777);
}

function makeOverWhiteout(union: Union, parent: Node, target: At, what: Making): number {
  using nursery = openNursery(union, parent);
  const result = what.make(nursery.fd, "new");
  if (result < 0) return result;
  try {
    giveToCaller(union, [nursery.fd, "new"], what.caller, { fd: nursery.fd, parent });
    if (what.type === C.S_IFDIR) sys.lsetxattrat(nursery.fd, "new", union.mark("opaque"), opaqueValue);
    replaceWhiteout(union, [nursery.fd, "new"], target, what.type === C.S_IFDIR);
  } catch (error) {
    raw.unlinkat(nursery.fd, "new", what.type === C.S_IFDIR ? C.AT_REMOVEDIR : 0);
    if (what.type === C.S_IFREG) raw.close(result);
    throw error;
  }
  return result;
}

/** Puts an object where a whiteout is. A directory cannot replace it in one step other than by changing places. */
function replaceWhiteout(union: Union, from: At, target: At, isDirectory: boolean): void {
  if (isDirectory) exchangeNames(union, from, target);
  else sys.renameat2(...from, ...target);
  if (isDirectory) sys.unlinkat(...from);
}

/** Lets two objects change places; in three steps where the file system has no way to do it in one (zfs-fuse, NFS). */
export function exchangeNames(union: Union, one: At, other: At): void {
  const r = raw.renameat2(...one, ...other, C.RENAME_EXCHANGE);
  if (r >= 0) return;
  if (r !== -EINVAL) throw new SyscallError("renameat2", -r);
  const aside: At = [union.workFd, union.temporaryName()];
  sys.renameat2(...other, ...aside);
  sys.renameat2(...one, ...other);
  sys.renameat2(...aside, ...one);
}

/** A directory in the work directory where new objects come out as they would in `parent`. It is removed with its use. */
function openNursery(union: Union, parent: Node): { readonly fd: number } & Disposable {
  const work = union.workFd;
  const name = union.temporaryName();
  const [fd, self] = union.at(parent);
  const stat = sys.statx(fd, self);
  sys.mkdirat(work, name, 0o700);
  if ((stat.mode & 0o2000) !== 0) {
    sys.lchownat(work, name, -1, stat.gid);
    sys.lchmodat(work, name, 0o2700);
  }
  const acl = sys.lgetxattrat(fd, self, defaultAcl);
  if (acl !== undefined) sys.lsetxattrat(work, name, defaultAcl, acl);
  const nursery = sys.openat(work, name, C.O_PATH | C.O_DIRECTORY);
  return {
    fd: nursery,
    [Symbol.dispose]: () => {
      raw.close(nursery);
      raw.unlinkat(work, name, C.AT_REMOVEDIR);
    },
  };
}

/** Gives an object of the upper layer one more name. */
export function linkObject(union: Union, node: Node, parent: Node, name: ByteString): void {
  const directory = directoryFor(union, parent);
  unhide(union, directory, name);
  union.linksChange(node, 1);
  const link = (to: At): void => {
    const [fd, own] = union.at(node);
    if (own === "") linkOpen(fd, to);
    else sys.linkat(fd, own, ...to);
  };
  if (isWhiteout(union, [directory, name])) {
    const temporary = union.temporaryName();
    link([union.workFd, temporary]);
    replaceWhiteout(union, [union.workFd, temporary], [directory, name], false);
  } else link([directory, name]);
  if (node.isRemoved && node.fd >= 0) {
    raw.close(node.fd);
    node.fd = -1;
  }
  markImpure(union, parent);
  union.nodes.addName(node, parent, name);
}
