/**
 * The hard links of trees that were compared by inode number (./trees-known-inode.ts): there the names that did not change
 * were not looked at, so that some of them may be missing among the links that were found. They matter when they share an
 * inode with a name that was looked at. For these inodes, if there are any, the directories of the tree are read once more.
 */
import { ONE, WorkShare, walkShared } from "../fs/walk-share.ts";
import * as C from "../sys/constants.ts";
import { inodeKey, readdir } from "../sys/syscalls.ts";
import { statOf } from "./trees-compare.ts";
import type { LinkedName } from "./trees-findings.ts";

/** The unchanged names that belong to the same inodes as `links`. `check` is called once a directory. */
export function missingLinks(treeFd: number, links: readonly LinkedName[], check: () => void): LinkedName[] {
  const wanted = inodesWithMore(links);
  const found: LinkedName[] = [];
  if (wanted.size === 0) return found;
  const seen = new Set(links.map((link) => link.path));
  const numbers = new Set([...wanted].map((key) => key.slice(key.indexOf(":", key.indexOf(":") + 1) + 1)));
  walkShared(WorkShare.start(ONE), { fd: treeFd, otherFd: -1 }, ({ fd, path, subdirectories }) => {
    check();
    for (const { name, type, inoLow, inoHigh } of readdir(fd)) {
      if (type === C.DT_DIR) subdirectories.push(ONE + name);
      if (type !== C.DT_UNKNOWN && (type === C.DT_DIR || !numbers.has(`${inoHigh}:${inoLow}`))) continue;
      const stat = statOf(fd, name, path);
      if (stat === undefined) continue;
      if ((stat.mode & C.S_IFMT) === C.S_IFDIR) {
        subdirectories.push(ONE + name);
        continue;
      }
      const inode = inodeKey(stat);
      const whole = path === "" ? name : `${path}/${name}`;
      if (!wanted.has(inode) || seen.has(whole)) continue;
      found.push({ path: whole, inode, parentInode: inode, changed: false, nlink: stat.nlink });
    }
  });
  return found;
}

/** The inodes that have, or may have, names that were not looked at. */
function inodesWithMore(links: readonly LinkedName[]): Set<string> {
  const names = new Map<string, number>();
  for (const { inode } of links) names.set(inode, (names.get(inode) ?? 0) + 1);
  const wanted = new Set<string>();
  for (const { inode, parentInode, changed, nlink } of links) {
    if (nlink > (names.get(inode) ?? 0)) wanted.add(inode);
    // Equal to the parent's object, but another: the parent's may be in the tree under other names.
    if (!changed && parentInode !== undefined && parentInode !== inode) wanted.add(parentInode);
  }
  return wanted;
}
