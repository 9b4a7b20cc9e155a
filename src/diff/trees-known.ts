/**
 * What is known of two trees before they are compared: which pairs of objects are proven to be the same, so that they need
 * not be compared, or not even be looked at. Each kind of hint has its own proof; without one there are two:
 * - the same device and inode number;
 * - both trees are overlay mounts, inode number and change time agree, and the change time is older than the directory the
 *   layer's tree is written to. Overlay gives an object copied up the inode number of its lower, so the number alone proves
 *   nothing; but everything in the upper directory was made, and so has its change time from, after that directory's birth.
 *   What changed before is the lower's own object, and the parent's view shows the same. Where the file system does not
 *   tell times of birth, this proves nothing.
 */
import { BOTH, type Marker, type SharedDirectory } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { DirEntry } from "../sys/raw.ts";
import { inodeKey, type Stat, sameInode } from "../sys/syscalls.ts";

/** What a comparison asks. One for each thread; directories are asked about one after another. */
export interface Known {
  /** How the two roots are to be walked. */
  root(a: Stat, b: Stat): Marker;
  /** What is asked next is about names in this directory. */
  enter(directory: SharedDirectory): void;
  /** True when two entries of one name are proven to be the same by what the directories say. Never for directories. */
  sameEntry(a: DirEntry, b: DirEntry): boolean;
  /**
   * True when the tree's object `a` is proven to be as the parent's. `b` is the parent's; undefined in a CALM directory,
   * where the parent has the same names. A directory has the same names then, but what these stand for may differ.
   */
  same(name: ByteString, a: Stat, b: Stat | undefined): boolean;
  /** How two directories are to be walked. */
  marker(name: ByteString, a: Stat, b: Stat | undefined): Marker;
  /** Tells the inodes of the parent apart; `b` as with `same`. */
  parentInode(name: ByteString, a: Stat, b: Stat | undefined): string;
}

/** When a directory was made. */
export interface Birth {
  readonly sec: number;
  readonly nsec: number;
}

/** No hint; `upperBirth`: of the layer's upper directory, when both trees are overlay mounts. */
export class NothingKnown implements Known {
  readonly #birth: Birth | undefined;

  constructor(upperBirth: Birth | undefined) {
    this.#birth = upperBirth;
  }

  root(): Marker {
    return BOTH;
  }

  enter(): void {}

  sameEntry(): boolean {
    return false;
  }

  same(_name: ByteString, a: Stat, b: Stat | undefined): boolean {
    if (b === undefined) return false;
    if (sameInode(a, b)) return true;
    const birth = this.#birth;
    if (birth === undefined || a.inoLow !== b.inoLow || a.inoHigh !== b.inoHigh) return false;
    if (a.ctimeSec !== b.ctimeSec || a.ctimeNsec !== b.ctimeNsec) return false;
    return a.ctimeSec < birth.sec || (a.ctimeSec === birth.sec && a.ctimeNsec < birth.nsec);
  }

  marker(): Marker {
    return BOTH;
  }

  parentInode(_name: ByteString, _a: Stat, b: Stat | undefined): string {
    return b === undefined ? "" : inodeKey(b);
  }
}
