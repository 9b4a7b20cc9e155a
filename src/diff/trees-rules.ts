/**
 * When two objects of the same name and type differ: mode, owner, device number, size, modification time to the nanosecond,
 * attributes (ACLs among them), link target, content. Access and change times are not a layer's business.
 *
 * Size and time never prove content equal: `touch -d` sets both back. Only who knows where the objects come from may leave
 * the content unread; see ./trees-known.ts.
 */
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import { readlinkat, type Stat } from "../sys/syscalls.ts";
import { openFile, sameContent, sameXattrs } from "./trees-content.ts";

/** An object: its stat, and a directory that has it (for "." the object itself). */
export interface Placed {
  readonly fd: number;
  readonly stat: Stat;
}

/** The S_IF type of an object. */
export function typeOf(stat: Stat): number {
  return stat.mode & C.S_IFMT;
}

/** True when mode, owner and attributes are the same; `name` is "." for the directories themselves. */
export function sameMetadata(tree: Placed, parent: Placed, name: ByteString): boolean {
  const a = tree.stat;
  const b = parent.stat;
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && sameXattrs(tree.fd, parent.fd, name);
}

/** True when two objects of one name, which are of one type, differ in anything; what directories hold does not count. */
export function differs(tree: Placed, parent: Placed, name: ByteString): boolean {
  const a = tree.stat;
  const b = parent.stat;
  if (a.mtimeSec !== b.mtimeSec || a.mtimeNsec !== b.mtimeNsec) return true;
  const type = typeOf(a);
  if (type !== C.S_IFDIR && a.size !== b.size) return true;
  if (!sameMetadata(tree, parent, name)) return true;
  switch (type) {
    case C.S_IFDIR:
      return false;
    case C.S_IFREG: {
      if (a.size === 0) return false;
      using own = openFile(tree.fd, name);
      using other = openFile(parent.fd, name);
      return !sameContent(own, other, { a, b });
    }
    case C.S_IFLNK:
      return readlinkat(tree.fd, name) !== readlinkat(parent.fd, name);
    default:
      return a.rdevMajor !== b.rdevMajor || a.rdevMinor !== b.rdevMinor;
  }
}
