/**
 * Renames, as the kernel's overlayfs does them (`ovl_rename`). A directory of which parts lie in lower layers takes along
 * where these are: a `redirect`, relative while it stays in its directory, else absolute. A directory that is new moves
 * as it is, but into a merged directory it goes opaque, lest it be merged with what lies there below. A source that lower
 * layers have too leaves a whiteout.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { copyUp, linkUp, markImpure } from "./copy-up.ts";
import { directoryFor, exchangeNames } from "./create.ts";
import { isUpperPart, type Name, type Node } from "./node.ts";
import { existing, forgetName, isLowerPositive, keepOpen } from "./remove.ts";
import type { At, Union } from "./union.ts";
import { isWhiteout, makeWhiteout, unhide } from "./whiteouts.ts";

const EEXIST = 17;
const EXDEV = 18;
const EINVAL = 22;
const ENOTEMPTY = 39;
/** The kernel takes no longer redirects (its `redirect_max`), the NUL that ends them counted. */
const LONGEST_REDIRECT = 255;

/** Renames, or exchanges two names. Errors: SyscallError, as renameat2(2). */
export function renameObject(union: Union, from: Name, to: Name, flags: number): void {
  if ((flags & ~(C.RENAME_NOREPLACE | C.RENAME_EXCHANGE)) !== 0) throw new SyscallError("renameat2", EINVAL);
  const node = existing(union, from.parent, from.name);
  const replaced = union.find(to.parent, to.name);
  if ((flags & C.RENAME_EXCHANGE) !== 0) {
    exchange(union, from, to, node, existing(union, to.parent, to.name));
    return;
  }
  if (replaced === node) return;
  if (replaced !== undefined && (flags & C.RENAME_NOREPLACE) !== 0) throw new SyscallError("renameat2", EEXIST);
  move(union, from, to, node, replaced);
}

function move(union: Union, from: Name, to: Name, node: Node, replaced: Node | undefined): void {
  mustBeMovable(union, node);
  const isFull = replaced?.isDirectory && union.stack.list(union.entryOf(replaced)).length > 0;
  if (isFull && replaced.isMergedOrLower) throw new SyscallError("renameat2", ENOTEMPTY);
  const leavesWhiteout = isLowerPositive(union, from.parent, from.name);
  linkUp(union, node, from.parent, from.name);
  copyUp(union, node, "metadata");
  if (replaced !== undefined) linkUp(union, replaced, to.parent, to.name);
  const source: At = [directoryFor(union, from.parent), from.name];
  const target: At = [directoryFor(union, to.parent), to.name];
  unhide(union, target[0], to.name);
  prepare(union, node, from, to);
  // The kernel leaves it to the upper layer to refuse this one, by when the source has been copied up.
  if (isFull) throw new SyscallError("renameat2", ENOTEMPTY);
  if (replaced?.isDirectory && replaced.upper) emptyDirectory(union, replaced, target);
  else if (replaced?.upper) keepOpen(union, replaced);
  if (replaced !== undefined) union.linksChange(replaced, -1);
  const overWhiteout = replaced === undefined && isWhiteout(union, target);
  if (overWhiteout && (leavesWhiteout || node.isDirectory)) {
    exchangeNames(union, source, target);
    if (!leavesWhiteout) sys.unlinkat(...source);
  } else moveLeaving(union, source, target, leavesWhiteout);
  if (replaced !== undefined) {
    union.dropFromIndex(replaced);
    forgetName(union, replaced, to.parent, to.name);
  }
  rename(union, node, from, to);
}

/** File systems that leave no whiteout themselves (ZFS before 2.2) have it made at once after; a crash between shows both. */
function moveLeaving(union: Union, source: At, target: At, leavesWhiteout: boolean): void {
  const isDevice = leavesWhiteout && !union.nodes.xattrWhiteouts;
  const r =
    leavesWhiteout && !isDevice ? -EINVAL : raw.renameat2(...source, ...target, isDevice ? C.RENAME_WHITEOUT : 0);
  if (r >= 0) return;
  if (r !== -EINVAL || !leavesWhiteout) throw new SyscallError("renameat2", -r);
  sys.renameat2(...source, ...target);
  makeWhiteout(union, source, source[0]);
}

function exchange(union: Union, from: Name, to: Name, node: Node, other: Node): void {
  if (node === other) return;
  mustBeMovable(union, node);
  mustBeMovable(union, other);
  linkUp(union, node, from.parent, from.name);
  linkUp(union, other, to.parent, to.name);
  copyUp(union, node, "metadata");
  copyUp(union, other, "metadata");
  const source: At = [directoryFor(union, from.parent), from.name];
  const target: At = [directoryFor(union, to.parent), to.name];
  prepare(union, node, from, to);
  prepare(union, other, to, from);
  exchangeNames(union, source, target);
  union.nodes.removeName(node, from.parent, from.name);
  union.nodes.removeName(other, to.parent, to.name);
  arrive(union, node, to);
  arrive(union, other, from);
}

function rename(union: Union, node: Node, from: Name, to: Name): void {
  union.nodes.removeName(node, from.parent, from.name);
  arrive(union, node, to);
  if (from.parent !== to.parent) union.nodes.dropUnused(from.parent);
}

function arrive(union: Union, node: Node, to: Name): void {
  union.nodes.addName(node, to.parent, to.name);
  if (!to.parent.impure) markImpure(union, to.parent);
}

/** Without redirects, what is below a directory cannot come along. */
function mustBeMovable(union: Union, node: Node): void {
  if (node.isDirectory && node.isMergedOrLower && !union.options.redirectDir)
    throw new SyscallError("renameat2", EXDEV);
}

/** Marks an object that lies in the upper layer for its new place. */
function prepare(union: Union, node: Node, from: Name, to: Name): void {
  if (node.isMergedOrLower) setRedirect(union, node, from, to);
  else if (node.isDirectory && isMerged(to.parent)) setOpaque(union, node);
}

function isMerged(directory: Node): boolean {
  return directory.parts.length > 1;
}

function setOpaque(union: Union, node: Node): void {
  const r = raw.lsetxattrat(...union.at(node), union.mark("opaque"), Buffer.from("y"));
  if (r < 0) throw new SyscallError("setxattr", EXDEV);
}

function setRedirect(union: Union, node: Node, from: Name, to: Name): void {
  const present = redirectOf(union, node);
  const staysRelative = from.parent === to.parent && (node.isDirectory || !isLinked(union, node));
  if (present !== undefined && (staysRelative || present.startsWith("/"))) return;
  const redirect = staysRelative ? from.name : absolutePath(union, node, from);
  if (redirect.length > LONGEST_REDIRECT) throw new SyscallError("renameat2", EXDEV);
  sys.lsetxattrat(...union.at(node), union.mark("redirect"), Buffer.from(redirect, "latin1"));
}

/** Other names of a metacopy file that is linked lie elsewhere; so may they of one that was linked below. */
function isLinked(union: Union, node: Node): boolean {
  const below = node.data && union.stack.statPlace(node.data);
  return node.names.length > 1 || (below !== undefined && below.nlink > 1);
}

function redirectOf(union: Union, node: Node): ByteString | undefined {
  if (!node.upper) return undefined;
  const value = sys.lgetxattrat(...union.at(node), union.mark("redirect"))?.toString("latin1");
  return value === "" ? undefined : value;
}

/** Where the lower layers have the object: its path from the root, a redirect in place of the name of each that has one. */
function absolutePath(union: Union, node: Node, from: Name): ByteString {
  let path = "";
  let at: Node = node;
  let place: Name | undefined = from;
  while (place !== undefined) {
    const component = redirectOf(union, at) ?? place.name;
    if (component.startsWith("/")) return component + path;
    path = `/${component}${path}`;
    at = place.parent;
    place = at.names[0];
  }
  return path;
}

/** Rids a directory that is about to be replaced of the whiteouts in it: an empty one takes its place. */
function emptyDirectory(union: Union, node: Node, target: At): void {
  keepOpen(union, node);
  using directory = new sys.OwnedFd(sys.openat(...target, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
  const whiteouts = sys.readdir(directory.fd);
  if (whiteouts.length === 0) return;
  if (node.parts.some((part) => !isUpperPart(part))) setOpaque(union, node);
  for (const { name } of whiteouts) sys.unlinkat(directory.fd, name);
}

/** Sets an absolute redirect on a metacopy file that gets one more name: it is found below under its first alone. What cannot be said gets its data. */
export function anchorMetacopy(union: Union, node: Node): void {
  const first = node.names[0];
  if (!node.isMetacopy || redirectOf(union, node)?.startsWith("/")) return;
  const path = first && absolutePath(union, node, first);
  if (path === undefined || path.length > LONGEST_REDIRECT) copyUp(union, node);
  else sys.lsetxattrat(...union.at(node), union.mark("redirect"), Buffer.from(path, "latin1"));
}
