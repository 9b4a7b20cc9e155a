/**
 * Which names must be emitted so that a layer gives the tree its hard links.
 *
 * A link names an object of the same stream, so of the names of one inode either all are emitted or none. Names that are not
 * emitted keep the links the parent has among them: those must be the links the tree has.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { LinkedName } from "./trees-findings.ts";

/** The names, beyond those that changed by themselves, that are to be emitted too. In no particular order. */
export function namesToRelink(links: readonly LinkedName[]): ByteString[] {
  const emitted: ByteString[] = [];
  const kept = new Map<string, LinkedName[]>();
  for (const group of grouped(links, (link) => link.inode).values()) {
    const parents = new Set(group.map((link) => link.parentInode));
    if (group.some((link) => link.changed) || parents.size > 1) {
      for (const link of group) if (!link.changed) emitted.push(link.path);
      continue;
    }
    // One inode in the tree, one in the parent: kept, unless the parent's has other names here too.
    const [first] = group;
    if (first?.parentInode === undefined) continue;
    const rival = kept.get(first.parentInode);
    if (rival === undefined) kept.set(first.parentInode, group);
    else {
      const mine = least(group) < least(rival) ? group : rival;
      kept.set(first.parentInode, mine);
      for (const link of mine === group ? rival : group) emitted.push(link.path);
    }
  }
  return emitted;
}

function least(group: readonly LinkedName[]): ByteString {
  return group.map((link) => link.path).sort()[0] ?? "";
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
