/**
 * The manifest of a tree: inode number and change time of every name in it, at one moment. `docs/formats/tree-manifest.md`
 * draws the bytes. What is here is what reader and writer share.
 */
import type { ByteString } from "../lib/bytes.ts";

/** The first bytes of a manifest: its name and version. */
export const manifestMagic = "LAMTREE\x01";

/** Offsets in the header. */
export const headerAt = {
  /** u32: CRC-32 of all that follows. */
  checksum: 8,
  /** u32: slots of the hash table of directories, a power of two; it follows the header. */
  slots: 12,
  /** u32: length of the clock stamp (JSON), which follows the hash table. */
  stampBytes: 16,
  /** The root's own entry, which has no name. */
  root: 20,
} as const;

/** Offsets in an entry; its name follows. */
export const entryAt = {
  /** Two u32, the low half first. */
  inode: 0,
  /** u32 and i32, the low half first. */
  ctimeSec: 8,
  ctimeNsec: 16,
  /** u8: a DT_ constant. */
  type: 20,
  /** u8. */
  nameBytes: 21,
} as const;

export const entryBytes = 22;
export const headerBytes = headerAt.root + entryBytes;

/** Offsets in the block of a directory; its path follows, then its entries. */
export const blockAt = { entries: 0, pathBytes: 4 } as const;
export const blockBytes = 8;

/**
 * Nanoseconds of an entry whose change time was not safely before the moment, so that a change right after could have the
 * same: it equals no change time. Such entries are what git calls racily clean.
 */
export const noTime = 0xffffffff;

/** The DT_ constant of a mode. */
export function entryType(mode: number): number {
  return (mode & 0o170000) >>> 12;
}

/** The hash of a directory's path (FNV-1a, 32 bits). */
export function pathHash(path: ByteString): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
