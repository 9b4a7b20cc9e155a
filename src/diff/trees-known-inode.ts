/**
 * What is known of two trees of hard links: the same inode number on one device is the same object. Directory entries tell
 * the number and type of what they name, so that nothing but directories and what differs need be looked at.
 *
 * Of a name that something is mounted on, the entry tells what is underneath. Such trees are not compared this way
 * (./find-changes.ts); here, a directory on another device than its twin is told apart from the start.
 */
import { BOTH, KNOWN, type Marker, type SharedDirectory } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import type { DirEntry } from "../sys/raw.ts";
import { inodeKey, type Stat, sameInode } from "../sys/syscalls.ts";
import type { Known } from "./trees-known.ts";

export class InodesKnown implements Known {
  #known = false;

  root(a: Stat, b: Stat): Marker {
    return this.marker("", a, b);
  }

  enter({ marker }: SharedDirectory): void {
    this.#known = marker === KNOWN;
  }

  sameEntry(a: DirEntry, b: DirEntry): boolean {
    if (!this.#known || a.type !== b.type || a.type === C.DT_UNKNOWN || a.type === C.DT_DIR) return false;
    return a.inoLow === b.inoLow && a.inoHigh === b.inoHigh;
  }

  same(_name: ByteString, a: Stat, b: Stat | undefined): boolean {
    return b !== undefined && sameInode(a, b);
  }

  marker(_name: ByteString, a: Stat, b: Stat | undefined): Marker {
    return b !== undefined && a.devMinor === b.devMinor && a.devMajor === b.devMajor ? KNOWN : BOTH;
  }

  parentInode(_name: ByteString, _a: Stat, b: Stat | undefined): string {
    return b === undefined ? "" : inodeKey(b);
  }
}
