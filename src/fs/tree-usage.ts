/**
 * Space a tree takes, as `du` counts it: 512-byte blocks, each inode once however many names it has, nothing below other
 * mounts.
 */
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, S_IFDIR, S_IFMT } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

export interface TreeUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

/**
 * What `path` and all below it take, without the objects with several names that `isOthers` says are somebody else's. Names
 * that vanish meanwhile are not counted. Synchronous.
 */
export function measureTree(
  path: ByteString,
  checkpoint: () => void = () => {},
  isOthers: (stat: sys.Stat) => boolean = () => false,
): TreeUsage {
  const linked = new Set<string>();
  const root = sys.statx(AT_FDCWD, path);
  let blocks = root.blocks;
  let inodes = 1;
  const visit = (dirfd: number, name: ByteString): void => {
    const fd = raw.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return;
    using directory = new sys.OwnedFd(fd);
    checkpoint();
    for (const entry of sys.readdir(directory.fd)) {
      const stat = raw.statx(fd, entry.name);
      if (typeof stat === "number") continue;
      if (stat.devMinor !== root.devMinor || stat.devMajor !== root.devMajor) continue;
      const isDirectory = (stat.mode & S_IFMT) === S_IFDIR;
      if (stat.nlink > 1 && !isDirectory) {
        const key = sys.inodeKey(stat);
        if (linked.has(key) || isOthers(stat)) continue;
        linked.add(key);
      }
      blocks += stat.blocks;
      inodes++;
      if (isDirectory) visit(fd, entry.name);
    }
  };
  visit(AT_FDCWD, path);
  return { sizeBytes: blocks * 512, inodes };
}
