/**
 * Walking a tree: {@link walkSync} visits every object in byte order within the calling thread; {@link walkTree} sums up a
 * tree with several threads. Both go relative to descriptors, never follow a symbolic link, and pay one statx an object
 * and one getdents64 for some hundreds of names.
 */
import { availableParallelism } from "node:os";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, open, type Stat } from "../sys/syscalls.ts";
import { ONE, WorkShare } from "./walk-share.ts";
import type { ChangeTime, PartialTotals, WalkJob } from "./walk-totals.ts";
import { WorkerPool, workerUrl } from "./worker-pool.ts";

/** One object of a walk. */
export interface WalkEntry {
  /** Relative to the root; the root itself is "". */
  readonly path: ByteString;
  /** The name to use with `dirFd` in further calls; "." for the root. */
  readonly name: ByteString;
  /** The directory that holds the object; for the root, the root itself. Open while the visitor runs. */
  readonly dirFd: number;
  readonly stat: Stat;
}

interface Level {
  readonly path: ByteString;
  readonly fd: number;
  names: readonly ByteString[];
  next: number;
}

const OPEN_DIRECTORY = C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW;
const ENOENT = -2;

/** The names of an open directory in byte order. */
export function sortedNames(fd: number, path: ByteString): ByteString[] {
  const entries: raw.DirEntry[] = [];
  for (;;) {
    const n = raw.getdents64(fd, entries);
    if (n < 0) throw new SyscallError("getdents64", -n, textOfBytes(path));
    if (n === 0) break;
  }
  const names = entries.map((entry) => entry.name);
  // Byte strings: the default order of strings, by UTF-16 code units, is the order of their bytes.
  return names.sort();
}

/**
 * Visits the directory `rootFd` and all below it: names in byte order, a directory before what it holds. `visit` answers
 * false for a directory that is not to be entered. Objects that vanish meanwhile are passed over; other failures throw
 * SyscallError with the path. One descriptor is open for each level.
 */
export function walkSync(rootFd: number, visit: (entry: WalkEntry) => unknown): void {
  const levels: Level[] = [];
  const enter = (dirFd: number, name: ByteString, path: ByteString): void => {
    const fd = raw.openat(dirFd, name, OPEN_DIRECTORY);
    if (fd === ENOENT) return;
    if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(path));
    const level: Level = { path, fd, names: [], next: 0 };
    levels.push(level);
    level.names = sortedNames(fd, path);
  };
  try {
    if (visit({ path: "", name: ".", dirFd: rootFd, stat: fstat(rootFd) }) === false) return;
    enter(rootFd, ".", "");
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names[level.next++];
      if (name === undefined) {
        raw.close(level.fd);
        levels.pop();
        continue;
      }
      const path = level.path === "" ? name : `${level.path}/${name}`;
      const stat = raw.statx(level.fd, name);
      if (typeof stat === "number") {
        if (stat === ENOENT) continue;
        throw new SyscallError("statx", -stat, textOfBytes(path));
      }
      const wanted = visit({ path, name, dirFd: level.fd, stat });
      if (wanted !== false && (stat.mode & C.S_IFMT) === C.S_IFDIR) enter(level.fd, name, path);
    }
  } finally {
    for (const level of levels) raw.close(level.fd);
  }
}

/** What a tree holds in all. The root counts. */
export interface TreeTotals {
  readonly directories: number;
  readonly regularFiles: number;
  readonly symlinks: number;
  /** Devices, fifos and sockets. */
  readonly others: number;
  /** Names in all: the sum of the four. */
  readonly entries: number;
  /** Objects in all: hard links to one inode are one. */
  readonly inodes: number;
  /** Sum of st_size over regular files and symbolic links, hard links once. */
  readonly sizeBytes: number;
  /** Blocks on disk, of every type, hard links once: what `du -s -B1` says. */
  readonly allocatedBytes: number;
}

export interface WalkOptions {
  readonly signal?: AbortSignal | undefined;
  /** Stay on the root's file system, as `du -x` does. */
  readonly oneFileSystem?: boolean | undefined;
  /** Sum up only what has changed at this time or later, and the root. */
  readonly changedSince?: ChangeTime | undefined;
  /**
   * A tree this one was cloned from, whose objects of the same path, inode number and change time are passed over: for
   * `changedSince`, where a tick of the clock holds both the last change of that tree and the making of this one.
   */
  readonly clonedFrom?: ByteString | undefined;
  /** The most threads to use. Default: as many as there are processors, at most four. */
  readonly threads?: number | undefined;
}

let pool: WorkerPool<WalkJob, PartialTotals> | undefined;

/**
 * Sums up the tree at `path` (absolute) with several threads. Objects that vanish meanwhile are passed over. Errors:
 * SyscallError with the path; `canceled`.
 */
export async function walkTree(path: ByteString, options: WalkOptions = {}): Promise<TreeTotals> {
  const threads = options.threads ?? Math.min(4, availableParallelism());
  pool ??= new WorkerPool(workerUrl(import.meta.url, "./walk-worker"), 4);
  using root = open(path, OPEN_DIRECTORY);
  const share = WorkShare.start(ONE);
  const { oneFileSystem = false, changedSince, clonedFrom } = options;
  using origin = clonedFrom === undefined ? undefined : open(clonedFrom, OPEN_DIRECTORY);
  const job: WalkJob = { share: share.memory, rootFd: root.fd, originFd: origin?.fd, oneFileSystem, changedSince };
  const workers = pool;
  const parts = await Promise.allSettled(
    Array.from({ length: threads }, () => workers.run(job, { signal: options.signal })),
  );
  const totals = { directories: 1, regularFiles: 0, symlinks: 0, others: 0, inodes: 1, sizeBytes: 0 };
  let blocks = fstat(root.fd).blocks;
  const linked = new Set<string>();
  for (const part of parts) {
    if (part.status === "rejected") throw part.reason;
    const sums = part.value;
    totals.directories += sums.directories;
    totals.regularFiles += sums.regularFiles;
    totals.symlinks += sums.symlinks;
    totals.others += sums.others;
    totals.inodes += sums.inodes;
    totals.sizeBytes += sums.sizeBytes;
    blocks += sums.blocks;
    for (const { inode, sizeBytes, blocks: linkedBlocks } of sums.linked) {
      if (linked.has(inode)) continue;
      linked.add(inode);
      totals.inodes++;
      totals.sizeBytes += sizeBytes;
      blocks += linkedBlocks;
    }
  }
  const entries = totals.directories + totals.regularFiles + totals.symlinks + totals.others;
  return { ...totals, entries, allocatedBytes: blocks * 512 };
}
