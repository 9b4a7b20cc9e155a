/**
 * One thread's part of comparing two trees: finds which names were deleted, added, or differ, directory by directory, in no
 * particular order. What differs is judged exactly: type, mode, owner, device number, size, modification time to the
 * nanosecond, attributes (ACLs among them), link target, content. Access and change times are not a layer's business.
 *
 * Content (and attributes) are compared unless the two objects are proven to be one:
 * - same device and inode number; or
 * - both trees are overlay mounts, inode number and change time agree, and the change time is older than the directory the
 *   layer's tree is written to. Overlay gives an object copied up the inode number of its lower, so the number alone proves
 *   nothing; but everything in the upper directory was made, and so has its change time from, after that directory's birth.
 *   What changed before is the lower's own object, and the parent's view shows the same.
 * Size and time never prove equality: `touch -d` sets both back. Where the file system does not tell times of birth, all
 * files of equal size and time are read.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { BOTH, ONE, type SharedDirectory, WorkShare, type WorkShareMemory, walkShared } from "../fs/walk-share.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { inodeKey, readlinkat, type Stat, sameInode } from "../sys/syscalls.ts";
import { openFile, sameContent, sameXattrs } from "./trees-content.ts";

/** Two trees to compare. Descriptors belong to the process, so that any of its threads can use them. */
export interface ComparedTrees {
  readonly share: WorkShareMemory;
  /** The layer's tree. */
  readonly treeFd: number;
  readonly parentFd: number;
  /** When the layer's tree and its parent are overlay mounts: birth of the upper directory. Undefined: proves nothing. */
  readonly upperBirth: { readonly sec: number; readonly nsec: number } | undefined;
}

/** `replaced`: a directory where the parent has something else, so that all below it is new. */
export type Difference = "added" | "modified" | "replaced";

/** What was found in one directory. */
export interface DirectoryFindings {
  readonly path: ByteString;
  readonly deleted: ByteString[];
  readonly changed: [name: ByteString, difference: Difference][];
}

/** A name whose inode has several names in one of the trees. */
export interface LinkedName {
  readonly path: ByteString;
  readonly inode: string;
  /** Undefined where the parent has no such file. */
  readonly parentInode: string | undefined;
  readonly changed: boolean;
}

export interface Findings {
  readonly directories: DirectoryFindings[];
  readonly links: LinkedName[];
  /** Names looked at, in both trees. */
  readonly visited: number;
}

const ENOENT = -2;

function typeOf(stat: Stat): number {
  return stat.mode & C.S_IFMT;
}

function statOf(dirFd: number, name: ByteString, path: ByteString): Stat | undefined {
  const stat = raw.statx(dirFd, name);
  if (typeof stat !== "number") return stat;
  if (stat === ENOENT) return undefined;
  throw new SyscallError("statx", -stat, textOfBytes(path));
}

function namesOf(fd: number, path: ByteString): ByteString[] {
  const entries: raw.DirEntry[] = [];
  for (;;) {
    const n = raw.getdents64(fd, entries);
    if (n < 0) throw new SyscallError("getdents64", -n, textOfBytes(path));
    if (n === 0) return entries.map((entry) => entry.name);
  }
}

/** True when mode, owner and attributes are the same; `name` is "." for the directories themselves. */
export function sameMetadata(
  tree: { readonly fd: number; readonly stat: Stat },
  parent: { readonly fd: number; readonly stat: Stat },
  name: ByteString,
): boolean {
  const a = tree.stat;
  const b = parent.stat;
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && sameXattrs(tree.fd, parent.fd, name);
}

function sameTime(a: Stat, b: Stat): boolean {
  return a.mtimeSec === b.mtimeSec && a.mtimeNsec === b.mtimeNsec;
}

/** Compares until there is nothing left to compare. `check` is called once a directory and may throw to end it. */
export function compareShared(trees: ComparedTrees, check: (visited: number) => void): Findings {
  const directories: DirectoryFindings[] = [];
  const links: LinkedName[] = [];
  let visited = 0;
  const birth = trees.upperBirth;

  const isSame = (a: Stat, b: Stat): boolean => {
    if (sameInode(a, b)) return true;
    if (birth === undefined || a.inoLow !== b.inoLow || a.inoHigh !== b.inoHigh) return false;
    if (a.ctimeSec !== b.ctimeSec || a.ctimeNsec !== b.ctimeNsec) return false;
    return a.ctimeSec < birth.sec || (a.ctimeSec === birth.sec && a.ctimeNsec < birth.nsec);
  };

  const differs = (directory: SharedDirectory, name: ByteString, a: Stat, b: Stat): boolean => {
    const { fd, otherFd } = directory;
    if (!sameTime(a, b) || a.size !== b.size) return true;
    if (!sameMetadata({ fd, stat: a }, { fd: otherFd, stat: b }, name)) return true;
    switch (typeOf(a)) {
      case C.S_IFREG: {
        if (a.size === 0) return false;
        using tree = openFile(fd, name);
        using parent = openFile(otherFd, name);
        return !sameContent(tree, parent, { a, b });
      }
      case C.S_IFLNK:
        return readlinkat(fd, name) !== readlinkat(otherFd, name);
      default:
        return a.rdevMajor !== b.rdevMajor || a.rdevMinor !== b.rdevMinor;
    }
  };

  /** Adds the names of a directory that is new as a whole: only its subdirectories and links matter. */
  const scanNew = (directory: SharedDirectory): void => {
    const names = namesOf(directory.fd, directory.path);
    visited += names.length;
    for (const name of names) {
      const path = `${directory.path}/${name}`;
      const stat = statOf(directory.fd, name, path);
      if (stat === undefined) continue;
      if (typeOf(stat) === C.S_IFDIR) directory.subdirectories.push(ONE + name);
      else if (stat.nlink > 1) links.push({ path, inode: inodeKey(stat), parentInode: undefined, changed: true });
    }
  };

  const compareDirectory = (directory: SharedDirectory): void => {
    const findings: DirectoryFindings = { path: directory.path, deleted: [], changed: [] };
    const names = namesOf(directory.fd, directory.path);
    const gone = new Set(namesOf(directory.otherFd, directory.path));
    visited += names.length + gone.size;
    for (const name of names) {
      const inParent = gone.has(name);
      const path = directory.path === "" ? name : `${directory.path}/${name}`;
      const stat = statOf(directory.fd, name, path);
      // What vanished meanwhile counts as deleted. A layer cannot hold a socket: to it there is nothing of that name.
      if (stat === undefined) continue;
      const type = typeOf(stat);
      const parent = inParent ? statOf(directory.otherFd, name, path) : undefined;
      if (type === C.S_IFSOCK) {
        if (parent !== undefined && typeOf(parent) === C.S_IFSOCK) gone.delete(name);
        continue;
      }
      gone.delete(name);
      const sameType = parent !== undefined && typeOf(parent) === type;
      if (type === C.S_IFDIR) {
        directory.subdirectories.push((sameType ? BOTH : ONE) + name);
        if (!sameType) findings.changed.push([name, parent === undefined ? "added" : "replaced"]);
        else if (!isSame(stat, parent)) {
          const { fd, otherFd } = directory;
          const same = sameTime(stat, parent) && sameMetadata({ fd, stat }, { fd: otherFd, stat: parent }, name);
          if (!same) findings.changed.push([name, "modified"]);
        }
        continue;
      }
      const changed = !sameType || (!isSame(stat, parent) && differs(directory, name, stat, parent));
      if (changed) findings.changed.push([name, parent === undefined ? "added" : "modified"]);
      if (stat.nlink > 1 || (sameType && parent.nlink > 1)) {
        links.push({ path, inode: inodeKey(stat), parentInode: sameType ? inodeKey(parent) : undefined, changed });
      }
    }
    findings.deleted.push(...gone);
    if (findings.deleted.length > 0 || findings.changed.length > 0) directories.push(findings);
  };

  walkShared(new WorkShare(trees.share), { fd: trees.treeFd, otherFd: trees.parentFd }, (directory) => {
    check(visited);
    if (directory.otherFd < 0) scanNew(directory);
    else compareDirectory(directory);
  });
  return { directories, links, visited };
}
