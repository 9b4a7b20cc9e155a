/**
 * Docker's naive diff, call for call, to time it without Docker: both trees are walked side by side in one thread; of every
 * name in either, attributes and the capability are read, but for names with the same inode number on one file system
 * (moby, pkg/archive/changes_linux.go, walkchunk and walk; changes.go, FileInfo.addChanges). What it finds is counted only.
 *
 * Docker then sleeps until the next full second. That is no work, and not in this.
 */
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import { fstat, type Stat } from "../../sys/syscalls.ts";

/** A tree by an open descriptor of its root. */
export interface Side {
  readonly fd: number;
}

export interface Compared {
  /** Names that differ, as Docker counts them. */
  readonly changes: number;
  /** Names in the first tree. */
  readonly entries: number;
}

const ENOENT = -2;
/** Names looked at before others get their turn: progress, and Ctrl-C. */
const breath = 4000;

interface Facts {
  readonly stat: Stat;
  readonly capability: Buffer | number;
}

/** Compares the trees. Errors: SyscallError; canceled. */
export async function dockerWalk(tree: Side, parent: Side, signal?: AbortSignal): Promise<Compared> {
  const sameDevice = deviceOf(fstat(tree.fd)) === deviceOf(fstat(parent.fd));
  let changes = 0;
  let entries = 0;
  let sinceBreath = 0;
  const left: ByteString[] = ["."];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    const mine = namesIn(tree.fd, path);
    const theirs = namesIn(parent.fd, path);
    for (const name of new Set([...mine.keys(), ...theirs.keys()])) {
      const below = path === "." ? name : `${path}/${name}`;
      const myInode = mine.get(name);
      const theirInode = theirs.get(name);
      if (myInode !== undefined) entries++;
      if (sameDevice && sameInode(myInode, theirInode)) continue;
      const here = myInode === undefined ? undefined : factsOf(tree.fd, below);
      const there = theirInode === undefined ? undefined : factsOf(parent.fd, below);
      if (here === undefined && there === undefined) continue;
      if (here === undefined || there === undefined || differs(here, there)) changes++;
      if (isDirectory(here) || isDirectory(there)) left.push(below);
    }
    sinceBreath += mine.size;
    if (sinceBreath > breath) {
      sinceBreath = 0;
      await setImmediate();
      throwIfAborted(signal);
    }
  }
  return { changes, entries };
}

function sameInode(a: raw.DirEntry | undefined, b: raw.DirEntry | undefined): boolean {
  return a !== undefined && b !== undefined && a.inoLow === b.inoLow && a.inoHigh === b.inoHigh;
}

/** Sorted names with their inode numbers. A directory that is in one tree only has no names in the other. */
function namesIn(rootFd: number, path: ByteString): ReadonlyMap<ByteString, raw.DirEntry> {
  const fd = raw.openat(rootFd, path, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW);
  if (fd < 0) return new Map();
  try {
    const entries: raw.DirEntry[] = [];
    for (;;) {
      const n = raw.getdents64(fd, entries);
      if (n < 0) throw new SyscallError("getdents64", -n, textOfBytes(path));
      if (n === 0) break;
    }
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    return new Map(entries.map((entry) => [entry.name, entry]));
  } finally {
    raw.close(fd);
  }
}

function factsOf(rootFd: number, path: ByteString): Facts | undefined {
  const stat = raw.statx(rootFd, path);
  if (stat === ENOENT) return undefined;
  if (typeof stat === "number") throw new SyscallError("statx", -stat, textOfBytes(path));
  return { stat, capability: raw.lgetxattrat(rootFd, path, "security.capability") };
}

function differs(a: Facts, b: Facts): boolean {
  const [one, other] = [a.stat, b.stat];
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return true;
  if (!isDirectory(a) && (one.size !== other.size || !sameTime(one, other))) return true;
  const [mine, theirs] = [a.capability, b.capability];
  if (typeof mine === "number" || typeof theirs === "number") return typeof mine !== typeof theirs;
  return !mine.equals(theirs);
}

function sameTime(a: Stat, b: Stat): boolean {
  return a.mtimeSec === b.mtimeSec && (a.mtimeNsec === b.mtimeNsec || a.mtimeNsec === 0 || b.mtimeNsec === 0);
}

function isDirectory(facts: Facts | undefined): boolean {
  return facts !== undefined && (facts.stat.mode & C.S_IFMT) === C.S_IFDIR;
}

function deviceOf({ devMajor, devMinor }: Stat): string {
  return `${devMajor}:${devMinor}`;
}
