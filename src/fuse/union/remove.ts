/**
 * Removal. A name that lower layers have too is covered by a whiteout, in one step: a link of the shared whiteout is renamed
 * over a file, or changes places with a directory. What is only in the upper layer is simply removed.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { linkUp } from "./copy-up.ts";
import { directoryFor, exchangeNames } from "./create.ts";
import { isUpperPart, type Node } from "./node.ts";
import type { At, Union } from "./union.ts";
import { makeWhiteout } from "./whiteouts.ts";

const ENOENT = 2;
const ENOTEMPTY = 39;

/** True when the lower layers have something of that name. */
export function isLowerPositive(union: Union, parent: Node, name: ByteString): boolean {
  const parts = parent.parts.filter((part) => !isUpperPart(part));
  return parts.length > 0 && union.stack.lookupIn(union.entryOf(parent, parts), name) !== undefined;
}

export function unlinkObject(union: Union, parent: Node, name: ByteString): void {
  const node = existing(union, parent, name);
  const directory = directoryFor(union, parent);
  const target: At = [directory, name];
  linkUp(union, node, parent, name);
  if (node.upper) keepOpen(union, node);
  union.linksChange(node, -1);
  if (!isLowerPositive(union, parent, name)) sys.unlinkat(...target);
  else if (!node.upper) makeWhiteout(union, target, directory);
  else {
    const temporary: At = [union.workFd, union.temporaryName()];
    makeWhiteout(union, temporary, directory);
    sys.renameat2(...temporary, ...target);
  }
  union.dropFromIndex(node);
  forgetName(union, node, parent, name);
}

export function existing(union: Union, parent: Node, name: ByteString): Node {
  const node = union.find(parent, name);
  if (node === undefined) throw new SyscallError("unlinkat", ENOENT);
  return node;
}

/** Before the last name of a file goes: whoever has it open may still ask about it. */
export function keepOpen(union: Union, node: Node): void {
  if (node.names.length > 1 || node.fd >= 0) return;
  const [fd, name] = union.at(node);
  const flags = node.isRegular || node.isDirectory ? C.O_RDONLY : C.O_PATH;
  const opened = raw.openat(fd, name, flags | C.O_NOFOLLOW | C.O_NONBLOCK);
  if (opened >= 0) node.fd = opened;
}

export function forgetName(union: Union, node: Node, parent: Node, name: ByteString): void {
  union.nodes.removeName(node, parent, name);
  if (!node.isRemoved) return;
  if (node.isDirectory) node.parts = [];
  union.nodes.dropUnused(node);
}

export function removeDirectory(union: Union, parent: Node, name: ByteString): void {
  const node = existing(union, parent, name);
  if (union.stack.list(union.entryOf(node)).length > 0) throw new SyscallError("rmdir", ENOTEMPTY);
  const directory = directoryFor(union, parent);
  const target: At = [directory, name];
  if (node.upper) union.writable.directory(node);
  if (!isLowerPositive(union, parent, name)) discardDirectory(union, target);
  else if (!node.upper) makeWhiteout(union, target, directory);
  else {
    const temporary: At = [union.workFd, union.temporaryName()];
    makeWhiteout(union, temporary, directory);
    exchangeNames(union, temporary, target);
    discardDirectory(union, temporary);
  }
  forgetName(union, node, parent, name);
}

/** Removes a directory of the upper layer that holds whiteouts at most; it leaves its place in one step. */
export function discardDirectory(union: Union, at: At): void {
  const r = raw.unlinkat(...at, C.AT_REMOVEDIR);
  if (r >= 0) return;
  if (r !== -ENOTEMPTY) throw new SyscallError("rmdir", -r);
  const temporary: At = [union.workFd, union.temporaryName()];
  sys.renameat2(...at, ...temporary);
  using directory = new sys.OwnedFd(sys.openat(...temporary, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
  for (const { name } of sys.readdir(directory.fd)) sys.unlinkat(directory.fd, name);
  sys.unlinkat(...temporary, C.AT_REMOVEDIR);
}
