/** One thread's share of summing up a tree: see `walkTree`. */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, inodeKey } from "../sys/syscalls.ts";
import { ONE, WorkShare, type WorkShareMemory, walkShared } from "./walk-share.ts";

/** A worker's job. */
export interface WalkJob {
  readonly share: WorkShareMemory;
  /** An open descriptor of the root: descriptors belong to the process, not to a thread. */
  readonly rootFd: number;
  /** An open descriptor of the root of the tree it was cloned from. */
  readonly originFd: number | undefined;
  readonly oneFileSystem: boolean;
  readonly changedSince: ChangeTime | undefined;
}

/** A change time. */
export interface ChangeTime {
  readonly sec: number;
  readonly nsec: number;
}

/** An inode with several names: whichever threads met it, it counts once. */
export interface LinkedInode {
  readonly inode: string;
  readonly sizeBytes: number;
  readonly blocks: number;
}

/** Sums of what one thread saw, without the root and without inodes of several names, which are listed. */
export interface PartialTotals {
  readonly directories: number;
  readonly regularFiles: number;
  readonly symlinks: number;
  readonly others: number;
  readonly inodes: number;
  readonly sizeBytes: number;
  readonly blocks: number;
  readonly linked: readonly LinkedInode[];
}

/** Walks until the tree is done. `check` is called once a directory and may throw to end the walk. */
export function sumShared(job: WalkJob, check: () => void): PartialTotals {
  const sums = { directories: 0, regularFiles: 0, symlinks: 0, others: 0, inodes: 0, sizeBytes: 0, blocks: 0 };
  const linked = new Map<string, LinkedInode>();
  const root = fstat(job.rootFd);
  const entries: raw.DirEntry[] = [];

  walkShared(new WorkShare(job.share), { fd: job.rootFd, otherFd: -1 }, (directory) => {
    check();
    for (;;) {
      entries.length = 0;
      const n = raw.getdents64(directory.fd, entries);
      if (n < 0) throw new SyscallError("getdents64", -n, textOfBytes(directory.path));
      if (n === 0) return;
      for (const { name } of entries) {
        const stat = raw.statx(directory.fd, name);
        if (typeof stat === "number") {
          if (stat === -2) continue;
          throw new SyscallError("statx", -stat, textOfBytes(`${directory.path}/${name}`));
        }
        const type = stat.mode & C.S_IFMT;
        const elsewhere = stat.devMinor !== root.devMinor || stat.devMajor !== root.devMajor;
        if (job.oneFileSystem && elsewhere) continue;
        if (type === C.S_IFDIR) directory.subdirectories.push(ONE + name);
        if (job.changedSince !== undefined && isBefore(stat, job.changedSince)) continue;
        if (job.originFd !== undefined && isAsIn(job.originFd, directory.path, name, stat)) continue;
        if (type === C.S_IFDIR) sums.directories++;
        else if (type === C.S_IFREG) sums.regularFiles++;
        else if (type === C.S_IFLNK) sums.symlinks++;
        else sums.others++;

        const sizeBytes = type === C.S_IFREG || type === C.S_IFLNK ? stat.size : 0;
        if (stat.nlink > 1 && type !== C.S_IFDIR) {
          const inode = inodeKey(stat);
          linked.set(inode, { inode, sizeBytes, blocks: stat.blocks });
        } else {
          sums.inodes++;
          sums.sizeBytes += sizeBytes;
          sums.blocks += stat.blocks;
        }
      }
    }
  });
  return { ...sums, linked: [...linked.values()] };
}

/** True when the object has the same inode number and change time there. */
function isAsIn(originFd: number, directory: ByteString, name: ByteString, stat: raw.Stat): boolean {
  const other = raw.statx(originFd, directory === "" ? name : `${directory}/${name}`);
  if (typeof other === "number") return false;
  const { inoHigh, inoLow, ctimeSec, ctimeNsec } = other;
  return (
    inoHigh === stat.inoHigh && inoLow === stat.inoLow && ctimeSec === stat.ctimeSec && ctimeNsec === stat.ctimeNsec
  );
}

function isBefore({ ctimeSec, ctimeNsec }: raw.Stat, { sec, nsec }: ChangeTime): boolean {
  return ctimeSec < sec || (ctimeSec === sec && ctimeNsec < nsec);
}
