/** What somebody who watched a tree change would report. */
import type { TreeSnapshot } from "./tree-snapshot.ts";

/** The names that differ between two trees, and all names of their inodes in either. */
export function candidatesOf(before: TreeSnapshot, now: TreeSnapshot): string[] {
  const paths = new Set<string>();
  for (const path of new Set([...before.lines.keys(), ...now.lines.keys()])) {
    if (before.lines.get(path) !== now.lines.get(path) && path !== ".") paths.add(path);
  }
  const groups = [before, now].map(({ inodes }) => {
    const names = new Map<number, string[]>();
    for (const [path, inode] of inodes) names.set(inode, [...(names.get(inode) ?? []), path]);
    return [...names.values()];
  });
  const [then = [], later = []] = groups;
  // Groups that are not the same changed, though each of their names may show what it did.
  const same = new Set(then.map((names) => names.sort().join("\0")));
  for (const names of later) if (!same.has(names.sort().join("\0"))) for (const name of names) paths.add(name);
  for (let size = -1; size !== paths.size; ) {
    size = paths.size;
    for (const names of [...then, ...later]) {
      if (names.some((name) => paths.has(name))) for (const name of names) paths.add(name);
    }
  }
  return [...paths];
}
