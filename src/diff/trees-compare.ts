/**
 * One thread's part of comparing two trees: finds which names were deleted, added, or differ, directory by directory, in no
 * particular order. What differs is judged exactly (./trees-rules.ts), unless it is proven to be the same (./trees-known.ts).
 *
 * A directory is looked at in one of three ways. New as a whole: only its subdirectories and links matter. In both trees:
 * its names are compared. Calm: it has the parent's names, so that the tree alone is looked at, and the parent's directory
 * is opened only when something in it is not proven to be the same.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import {
  CALM,
  ONE,
  openBeneath,
  type SharedDirectory,
  WorkShare,
  type WorkShareMemory,
  walkShared,
} from "../fs/walk-share.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { inodeKey, type Stat } from "../sys/syscalls.ts";
import type { DirectoryFindings, Findings, LinkedName } from "./trees-findings.ts";
import type { Known } from "./trees-known.ts";
import { type KnownOf, knownFrom } from "./trees-known-of.ts";
import { differs, typeOf } from "./trees-rules.ts";

/** Two trees to compare. Descriptors belong to the process, so that any of its threads can use them. */
export interface ComparedTrees {
  readonly share: WorkShareMemory;
  /** The layer's tree. */
  readonly treeFd: number;
  readonly parentFd: number;
  readonly known: KnownOf;
}

const ENOENT = -2;

/** Compares until there is nothing left to compare. `check` is called once a directory and may throw to end it. */
export function compareShared(trees: ComparedTrees, check: (visited: number) => void): Findings {
  const comparer = new TreesComparer(trees.parentFd, knownFrom(trees.known));
  walkShared(new WorkShare(trees.share), { fd: trees.treeFd, otherFd: trees.parentFd }, (directory) => {
    check(comparer.entries);
    comparer.visit(directory);
  });
  return comparer.findings;
}

/** Compares directories, one after another, and keeps what it finds. */
export class TreesComparer {
  readonly #parentFd: number;
  readonly #known: Known;
  readonly #directories: DirectoryFindings[] = [];
  readonly #links: LinkedName[] = [];
  /** Directory entries of the tree so far: how much work it is. */
  entries = 0;
  visited = 0;

  /** `parentFd`: the root of the parent's tree. */
  constructor(parentFd: number, known: Known) {
    this.#parentFd = parentFd;
    this.#known = known;
  }

  get findings(): Findings {
    return { directories: this.#directories, links: this.#links, visited: this.visited };
  }

  /** Looks at what a directory holds, and names the subdirectories to be looked at next. */
  visit(directory: SharedDirectory): void {
    if (directory.marker === ONE) {
      this.#scanNew(directory);
      return;
    }
    const findings: DirectoryFindings = { path: directory.path, deleted: [], changed: [] };
    this.#known.enter(directory);
    if (directory.marker === CALM) this.#scanCalm(directory, findings);
    else this.#compareNames(directory, findings);
    this.keep(findings);
  }

  /** Keeps what was found in a directory, if anything was. */
  keep(findings: DirectoryFindings): void {
    if (findings.deleted.length > 0 || findings.changed.length > 0) this.#directories.push(findings);
  }

  #scanNew(directory: SharedDirectory): void {
    const entries = entriesOf(directory.fd, directory.path);
    this.entries += entries.length;
    this.visited += entries.length;
    for (const { name } of entries) {
      const path = `${directory.path}/${name}`;
      const stat = statOf(directory.fd, name, path);
      if (stat === undefined) continue;
      if (typeOf(stat) === C.S_IFDIR) directory.subdirectories.push(ONE + name);
      else if (stat.nlink > 1) {
        const { nlink } = stat;
        this.#links.push({ path, inode: inodeKey(stat), parentInode: undefined, changed: true, nlink });
      }
    }
  }

  #compareNames(directory: SharedDirectory, findings: DirectoryFindings): void {
    const { fd, otherFd, path } = directory;
    const gone = new Map(entriesOf(otherFd, path).map((entry) => [entry.name, entry]));
    const entries = entriesOf(fd, path);
    this.entries += entries.length;
    for (const entry of entries) {
      const { name } = entry;
      const other = gone.get(name);
      if (other !== undefined && this.#known.sameEntry(entry, other)) {
        gone.delete(name);
        continue;
      }
      const stat = statOf(fd, name, path);
      const parent = other === undefined ? undefined : statOf(otherFd, name, path);
      this.visited += other === undefined ? 1 : 2;
      if (stat !== undefined && this.compareObjects(directory, findings, name, { stat, parent })) gone.delete(name);
    }
    this.visited += gone.size;
    findings.deleted.push(...gone.keys());
  }

  #scanCalm(directory: SharedDirectory, findings: DirectoryFindings): void {
    const { fd, path } = directory;
    const known = this.#known;
    const entries = entriesOf(fd, path);
    this.entries += entries.length;
    this.visited += entries.length;
    for (const { name } of entries) {
      const stat = statOf(fd, name, path);
      if (stat !== undefined && known.same(name, stat, undefined)) {
        if (typeOf(stat) === C.S_IFDIR) directory.subdirectories.push(known.marker(name, stat, undefined) + name);
        else if (stat.nlink > 1) this.#link(directory, name, stat, false, known.parentInode(name, stat, undefined));
        continue;
      }
      if (directory.otherFd < 0) directory.otherFd = openBeneath(this.#parentFd, path);
      const parent = statOf(directory.otherFd, name, path);
      this.visited++;
      const there = stat !== undefined && this.compareObjects(directory, findings, name, { stat, parent });
      if (!there && parent !== undefined) findings.deleted.push(name);
    }
  }

  /**
   * Compares what both trees have at a name. False when, to a layer, the tree has nothing there: what vanished meanwhile
   * counts as deleted, and a layer cannot hold a socket.
   */
  compareObjects(
    directory: SharedDirectory,
    findings: DirectoryFindings,
    name: ByteString,
    { stat, parent }: { readonly stat: Stat; readonly parent: Stat | undefined },
  ): boolean {
    const known = this.#known;
    const type = typeOf(stat);
    const sameType = parent !== undefined && typeOf(parent) === type;
    if (type === C.S_IFSOCK) return sameType;
    const changed =
      !sameType ||
      (!known.same(name, stat, parent) &&
        differs({ fd: directory.fd, stat }, { fd: directory.otherFd, stat: parent }, name));
    if (type === C.S_IFDIR) {
      directory.subdirectories.push((sameType ? known.marker(name, stat, parent) : ONE) + name);
      if (changed) findings.changed.push([name, sameType ? "modified" : parent === undefined ? "added" : "replaced"]);
      return true;
    }
    if (changed) findings.changed.push([name, parent === undefined ? "added" : "modified"]);
    if (stat.nlink > 1 || (sameType && parent.nlink > 1)) {
      const parentInode = sameType ? known.parentInode(name, stat, parent) : undefined;
      this.#link(directory, name, stat, changed, parentInode);
    }
    return true;
  }

  #link(
    directory: SharedDirectory,
    name: ByteString,
    stat: Stat,
    changed: boolean,
    parentInode: string | undefined,
  ): void {
    const path = directory.path === "" ? name : `${directory.path}/${name}`;
    this.#links.push({ path, inode: inodeKey(stat), parentInode, changed, nlink: stat.nlink });
  }
}

/** The object itself; undefined when there is none of that name. `path` is told in errors. */
export function statOf(dirFd: number, name: ByteString, path: ByteString): Stat | undefined {
  const stat = raw.statx(dirFd, name);
  if (typeof stat !== "number") return stat;
  if (stat === ENOENT) return undefined;
  throw new SyscallError("statx", -stat, textOfBytes(`${path}/${name}`));
}

function entriesOf(fd: number, path: ByteString): raw.DirEntry[] {
  const entries: raw.DirEntry[] = [];
  for (;;) {
    const n = raw.getdents64(fd, entries);
    if (n < 0) throw new SyscallError("getdents64", -n, textOfBytes(path));
    if (n === 0) return entries;
  }
}
