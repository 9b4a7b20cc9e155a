/** What comparing two trees finds: plain data, in no particular order, that threads send each other. */
import type { ByteString } from "../lib/bytes.ts";

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
  /** Tells the parent's inodes apart; undefined where the parent has no such file. */
  readonly parentInode: string | undefined;
  readonly changed: boolean;
  /** Names that the tree's inode has, wherever they are. */
  readonly nlink: number;
}

export interface Findings {
  readonly directories: DirectoryFindings[];
  readonly links: LinkedName[];
  /** Names looked at, in both trees; not those that their directory entries said enough of. */
  readonly visited: number;
}

/** Findings to add others to. */
export function noFindings(): Findings {
  return { directories: [], links: [], visited: 0 };
}

/** Adds the findings of one part of the trees to those of another. */
export function addFindings(to: Findings, more: Findings): Findings {
  for (const directory of more.directories) to.directories.push(directory);
  for (const link of more.links) to.links.push(link);
  return { ...to, visited: to.visited + more.visited };
}
