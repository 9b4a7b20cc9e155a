/**
 * Copy-up: what is about to change is first made in the upper layer as it is below. The parents come first. Each object is
 * made whole in the work directory (owner, attributes, mode, times, data on disk) and then appears by one rename or link, so
 * that a crash or a full disk leaves nothing half copied. The parent's times stay as they were.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import { FileCopier } from "../../fs/copy-file.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { Place } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Node } from "./node.ts";
import { openBacking, writeRecord } from "./records.ts";
import type { At, Union } from "./union.ts";
import { useUmask } from "./use-umask.ts";

const EIO = 5;
const EOPNOTSUPP = 95;
const EOVERFLOW = 75;
const EISDIR = 21;
const EINVAL = 22;

/** What of a regular file is needed: `metadata` alone, nothing of its `data` as it will be emptied, or all. */
export type Extent = "metadata" | "no-data" | "all";

const copier = new FileCopier({ writesBehind: true });

/** Sees to it that a node lies in the upper layer, with what is needed of it. Errors: SyscallError, also EROFS. */
export function copyUp(union: Union, node: Node, extent: Extent = "all"): void {
  if (node.upper) {
    if (node.isMetacopy && extent !== "metadata") copyUpData(union, node, extent);
    return;
  }
  const { writable } = union;
  const name = node.names[0];
  const stat = union.diskStat(node);
  if (node.index !== undefined) {
    copyUpIndexed(union, node, stat, extent);
    // By which of its names it was reached is not known.
    for (const each of node.names) linkUp(union, node, each.parent, each.name);
    return;
  }
  if (name === undefined) {
    copyUpRemoved(union, node, stat);
    return;
  }
  const { parent } = name;
  copyUp(union, parent);
  const target: At = [writable.directory(parent), name.name];
  const before = sys.fstat(target[0]);
  const origin = node.isRegular ? copyRegular(union, node, stat, target, extent) : copyOther(union, node, stat, target);
  sys.utimensat(target[0], ".", before);
  if (origin) markImpure(union, parent);
  becomeUpper(union, node, target, stat);
}

/** Of a hard-linked file: into the index. */
function copyUpIndexed(union: Union, node: Node, stat: sys.Stat, extent: Extent): void {
  const { index, links } = node;
  if (index === undefined) return;
  const target: At = [union.index.fd, index];
  if (node.isRegular) copyRegular(union, node, stat, target, extent);
  else copyOther(union, node, stat, target);
  union.index.setLinks(index, links, 1);
  becomeUpper(union, node, target, stat);
}

/** Sees to it that a name of an indexed file is in the upper layer, too: before it is renamed or removed. */
export function linkUp(union: Union, node: Node, parent: Node, name: ByteString): void {
  const { index } = node;
  if (index === undefined) return;
  if (!node.upper) copyUpIndexed(union, node, union.diskStat(node), "metadata");
  copyUp(union, parent);
  const directory = union.writable.directory(parent);
  if (typeof raw.statx(directory, name) !== "number") return;
  const before = sys.fstat(directory);
  const { nlink } = sys.statx(union.index.fd, index);
  sys.linkat(union.index.fd, index, directory, name);
  union.index.setLinks(index, node.links, nlink + 1);
  sys.utimensat(directory, ".", before);
  markImpure(union, parent);
}

/** Notes that a node lies in the upper layer now. A copy of one of several names has become a file of its own. */
function becomeUpper(union: Union, node: Node, [fd, name]: At, below: sys.Stat): void {
  node.upper = true;
  union.attributesChanged(node);
  if (node.isDirectory) {
    node.parts.unshift(union.nodes.upperPart(node.id));
    return;
  }
  const stat = sys.statx(fd, name);
  union.nodes.setUpperKey(node, stat);
  if (below.nlink > 1 && node.index === undefined) node.ino = union.inodeNumber(stat);
}

/** Marks a directory that holds copied-up objects, whose inode numbers are not those of the upper layer. */
export function markImpure(union: Union, directory: Node): void {
  if (directory.impure) return;
  directory.impure = true;
  const [fd, name] = union.at(directory);
  raw.lsetxattrat(fd, name, union.mark("impure"), Buffer.from("y"));
}

/** Directories, symbolic links and special files; true when the origin was noted. */
function copyOther(union: Union, node: Node, stat: sys.Stat, target: At): boolean {
  const work = union.workFd;
  const temporary = union.temporaryName();
  const { lower } = node;
  if (lower === undefined) throw new SyscallError("open", EINVAL);
  const layer = union.layer(lower.layer);
  if (node.isDirectory) sys.mkdirat(work, temporary, 0o700);
  else if (node.type === C.S_IFLNK) sys.symlinkat(layer.readlink(lower.path), work, temporary);
  else sys.mknodat(work, temporary, stat.mode, stat.rdevMajor, stat.rdevMinor);
  let origin = false;
  try {
    const keepsInode = node.isDirectory || stat.nlink === 1 || node.index !== undefined;
    if (keepsInode) origin = noteOrigin(union, lower, [work, temporary]);
    copyAttributes(union, lower, stat, [work, temporary]);
    sys.renameat2(work, temporary, ...target);
  } catch (error) {
    raw.unlinkat(work, temporary, node.isDirectory ? C.AT_REMOVEDIR : 0);
    throw error;
  }
  return origin;
}

function noteOrigin(union: Union, lower: Place, [fd, name]: At): boolean {
  const value = union.originAt(lower);
  if (value === undefined) return false;
  return raw.lsetxattrat(fd, name, union.mark("origin"), value) >= 0;
}

/** A regular file: made without a name, and linked to it when it is complete. */
function copyRegular(union: Union, node: Node, stat: sys.Stat, target: At, extent: Extent): boolean {
  const unnamed = openUnnamed(union, stat.mode & 0o777);
  using file = unnamed.file;
  try {
    const hasData = fillCopy(union, node, stat, { fd: file.fd, extent });
    if (union.options.strict) sys.fsync(file.fd);
    const noted = (stat.nlink === 1 || node.index !== undefined) && noteOriginOf(union, node, file.fd);
    if (unnamed.name === undefined) linkOpen(file.fd, target);
    else sys.renameat2(union.workFd, unnamed.name, ...target);
    if (hasData) node.data = undefined;
    return noted;
  } catch (error) {
    if (unnamed.name !== undefined) raw.unlinkat(union.workFd, unnamed.name);
    throw error;
  }
}

interface Unnamed {
  readonly file: sys.OwnedFd;
  /** In the work directory, on file systems that know no files without a name. */
  readonly name: ByteString | undefined;
}

function openUnnamed(union: Union, mode: number): Unnamed {
  useUmask(0);
  const fd = raw.openat(union.workFd, ".", C.O_TMPFILE | C.O_RDWR, mode);
  if (fd >= 0) return { file: new sys.OwnedFd(fd), name: undefined };
  if (fd !== -EOPNOTSUPP && fd !== -EISDIR) throw new SyscallError("openat", -fd);
  const name = union.temporaryName();
  const named = sys.openat(union.workFd, name, C.O_RDWR | C.O_CREAT | C.O_EXCL, mode);
  return { file: new sys.OwnedFd(named), name };
}

function noteOriginOf(union: Union, node: Node, fd: number): boolean {
  const value = node.lower === undefined ? undefined : union.originAt(node.lower);
  return value !== undefined && raw.fsetxattr(fd, union.mark("origin"), value) >= 0;
}

/** Gives an open file without a name one; by its descriptor alone where the kernel lets us. */
export function linkOpen(fd: number, [directory, name]: At): void {
  if (raw.linkat(fd, "", directory, name, C.AT_EMPTY_PATH) >= 0) return;
  sys.linkat(C.AT_FDCWD, `/proc/self/fd/${fd}`, directory, name, C.AT_SYMLINK_FOLLOW);
}

/** Makes an open, empty file like the one below; false when its data stays there. */
function fillCopy(
  union: Union,
  node: Node,
  stat: sys.Stat,
  to: { readonly fd: number; readonly extent: Extent },
): boolean {
  const { lower, data } = node;
  if (lower === undefined || data === undefined) throw new SyscallError("open", EINVAL);
  const { fd, extent } = to;
  const asMetacopy = extent === "metadata" && union.options.metacopy && stat.size > 0;
  if (asMetacopy) {
    sys.ftruncate(fd, stat.size);
    sys.fsetxattr(fd, union.mark("metacopy"), Buffer.alloc(0));
  } else if (extent !== "no-data") copyData(union, data, fd);
  copyAttributes(union, lower, stat, [fd, ""]);
  return !asMetacopy;
}

/** The content, on disk before the file has a name. */
function copyData(union: Union, data: Place, toFd: number): void {
  using source = union.layer(data.layer).open(data.path);
  const { size, blocks } = sys.fstat(source.fd);
  const shared = copier.reflinked;
  copier.copy(source.fd, toFd, size, blocks);
  if (sys.fstat(toFd).size !== size) throw new SyscallError("copy_file_range", EIO);
  // Shared extents are on disk already, and the file system's log has them before it has the name.
  const isOnDisk = size === 0 || copier.reflinked > shared;
  if (!isOnDisk && union.syncs) sys.fsync(toFd);
}

/** Fetches the data of a file of which the upper layer has the metadata alone. Its time becomes now, as with the kernel. */
function copyUpData(union: Union, node: Node, extent: Extent): void {
  const [directory, name] = union.at(node);
  using file = openWritable([directory, name]);
  if (extent === "all" && node.data !== undefined) copyData(union, node.data, file.fd);
  sys.lremovexattrat(directory, name, union.mark("metacopy"));
  node.data = undefined;
}

/** Opens a regular file of the upper layer for reading and writing. */
function openWritable([fd, name]: At): sys.OwnedFd {
  if (name === "") return new sys.OwnedFd(sys.openat(C.AT_FDCWD, `/proc/self/fd/${fd}`, C.O_RDWR));
  return new sys.OwnedFd(sys.openat(fd, name, C.O_RDWR | C.O_NOFOLLOW | C.O_NONBLOCK));
}

/** A removed file that is still open, or one that is changed through a descriptor: its copy has no name either. */
function copyUpRemoved(union: Union, node: Node, stat: sys.Stat): void {
  if (!node.isRegular) throw new SyscallError("open", EINVAL);
  const { file, name } = openUnnamed(union, stat.mode & 0o777);
  using owned = file;
  if (name !== undefined) raw.unlinkat(union.workFd, name);
  fillCopy(union, node, stat, { fd: owned.fd, extent: "all" });
  node.fd = owned.release();
  node.data = undefined;
  node.upper = true;
}

/** Owner, then extended attributes, then mode, then times: chown clears set-id bits and capabilities, all change times. */
function copyAttributes(union: Union, from: Place, stat: sys.Stat, [fd, name]: At): void {
  const flags = name === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW;
  if (union.record !== undefined && writeRecord([fd, name], union.record, stat)) {
    copyXattrs(union, from, [fd, name]);
    openBacking([fd, name], stat.mode);
    sys.utimensat(fd, name, stat);
    return;
  }
  const { maker } = union;
  const isMakers = stat.uid === maker.uid && stat.gid === maker.gid;
  const owned = isMakers ? 0 : raw.fchownat(fd, name, stat.uid, stat.gid, flags);
  if (owned < 0) throw new SyscallError("fchownat", owned === -EINVAL ? EOVERFLOW : -owned);
  copyXattrs(union, from, [fd, name]);
  // A file is made with its mode, but for the bits that chown clears.
  const hasMode = (stat.mode & C.S_IFMT) === C.S_IFREG && (stat.mode & 0o7000) === 0;
  if ((stat.mode & C.S_IFMT) !== C.S_IFLNK && !hasMode) sys.lchmodat(fd, name, stat.mode & 0o7777);
  sys.utimensat(fd, name, stat);
}

/** All but overlay's own; those which the upper's file system does not know are left out. */
function copyXattrs(union: Union, from: Place, [fd, name]: At): void {
  const layer = union.layer(from.layer);
  for (const key of layer.listxattr(from.path)) {
    if (isOwn(union, key)) continue;
    const value = layer.getxattr(from.path, key);
    if (value === undefined) continue;
    const r = name === "" ? raw.fsetxattr(fd, key, value) : raw.lsetxattrat(fd, name, key, value);
    if (r < 0 && (r !== -EOPNOTSUPP || key.startsWith("system."))) throw new SyscallError("setxattr", -r);
  }
}

/** True for overlay's own attributes. Those that were escaped are the object's. */
function isOwn(union: Union, key: ByteString): boolean {
  return key.startsWith(union.options.prefix) && !key.startsWith(`${union.options.prefix}overlay.`);
}
