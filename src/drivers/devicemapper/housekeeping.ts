/**
 * Whether a file system differs from the one it began as a clone of by no more than what mounting and unmounting it writes:
 * then nothing in its tree has changed, and the differ need not look.
 *
 * What was seen on Linux 6.1 (ext4 and xfs made with the driver's options), between a layer and its parent:
 *
 *     never mounted                nothing
 *     mounted and unmounted        ext4: the superblock's times, counts and checksum
 *                                  xfs: the superblock's sums, LSN and checksum, and 2 MiB of the log
 *     and files were read          the same, and the inodes whose access times were set (not with dm.mountopt=noatime);
 *                                  of ext4 the journal
 *     and something was changed    the inodes, directories and maps concerned: something that is not left out below
 *
 * ext4: Documentation/filesystems/ext4/super.rst; the journal's place is in the superblock's copy of inode 8 (s_jnl_blocks).
 * xfs: struct xfs_dsb in fs/xfs/libxfs/xfs_format.h.
 */
import type { BlockDifference } from "./thin-metadata.ts";

/** A stretch of the device in bytes, `end` left out. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

const EXT4 = 1024;
const EXTENT_MAGIC = 0xf30a;
const INCOMPAT_RECOVER = 4;

/** What may differ, by the first 4 KiB of the device; undefined for a file system not known here. */
export function housekeepingOf(superblock: Buffer): readonly Stretch[] | undefined {
  if (superblock.length < 4096) return undefined;
  if (superblock.toString("latin1", 0, 4) === "XFSB") return housekeepingOfXfs(superblock);
  if (superblock.readUInt16LE(EXT4 + 0x38) === 0xef53) return housekeepingOfExt4(superblock.subarray(EXT4));
  return undefined;
}

/** Fields of the superblock: sums of what the allocation groups have (inodes, free inodes, free blocks), checksum, LSN. */
const xfsFields = [
  [0x80, 0xa0],
  [0xe0, 0xe4],
  [0xf0, 0xf8],
] as const;

function housekeepingOfXfs(superblock: Buffer): Stretch[] {
  const blockBytes = superblock.readUInt32BE(4);
  const logStart = superblock.readBigUInt64BE(48);
  const groupBlocks = superblock.readUInt32BE(84);
  const logBlocks = superblock.readUInt32BE(96);
  const groupLog = BigInt(superblock.readUInt8(124));
  const inGroup = Number(logStart & ((1n << groupLog) - 1n));
  const start = (Number(logStart >> groupLog) * groupBlocks + inGroup) * blockBytes;
  const fields = xfsFields.map(([from, end]) => ({ start: from, end }));
  return logStart === 0n ? fields : [...fields, { start, end: start + logBlocks * blockBytes }];
}

/**
 * Fields of the superblock: sums of what the groups have (free blocks and inodes), times and count of mounts, where it was
 * mounted, the sums' upper halves, kilobytes written, the times' upper bytes, checksum.
 */
const ext4Fields = [
  [0x0c, 0x14],
  [0x2c, 0x36],
  [0x88, 0xc8],
  [0x158, 0x15c],
  [0x178, 0x180],
  [0x274, 0x276],
  [0x3fc, 0x400],
] as const;

/** The journal counts for nothing: it is not to be replayed. */
function housekeepingOfExt4(superblock: Buffer): Stretch[] | undefined {
  if ((superblock.readUInt32LE(0x60) & INCOMPAT_RECOVER) !== 0) return undefined;
  const blockBytes = 1024 << superblock.readUInt32LE(0x18);
  const fields = ext4Fields.map(([start, end]) => ({ start: EXT4 + start, end: EXT4 + end }));
  return [...fields, ...journalOf(superblock.subarray(0x10c, 0x150), blockBytes)];
}

/** The journal's extents, as an inode has them; none where they take more than an inode has room for. */
function journalOf(inodeBlocks: Buffer, blockBytes: number): Stretch[] {
  if (inodeBlocks.readUInt16LE(0) !== EXTENT_MAGIC || inodeBlocks.readUInt16LE(6) !== 0) return [];
  const count = Math.min(inodeBlocks.readUInt16LE(2), 4);
  return Array.from({ length: count }, (_, i) => {
    const extent = inodeBlocks.subarray(12 + 12 * i);
    const start = (extent.readUInt16LE(6) * 2 ** 32 + extent.readUInt32LE(8)) * blockBytes;
    return { start, end: start + extent.readUInt16LE(4) * blockBytes };
  });
}

/**
 * True when the blocks that differ do so in nothing but these stretches. `read`: a data block of the pool. At most `most` blocks
 * are read for it.
 */
export function differsOnlyIn(
  stretches: readonly Stretch[],
  { differences, blockBytes, most }: { differences: readonly BlockDifference[]; blockBytes: number; most: number },
  read: (dataBlock: number) => Buffer,
): boolean {
  const others = differences.filter(({ block }) => {
    const [start, end] = [block * blockBytes, (block + 1) * blockBytes];
    return !stretches.some((stretch) => stretch.start <= start && end <= stretch.end);
  });
  if (others.length > most) return false;
  return others.every(({ block, data, originData }) => {
    if (data === undefined || originData === undefined) return false;
    const [a, b] = [read(data), read(originData)];
    for (const { start, end } of stretches) {
      const from = Math.max(0, start - block * blockBytes);
      const to = Math.min(blockBytes, end - block * blockBytes);
      if (from < to) for (const bytes of [a, b]) bytes.fill(0, from, to);
    }
    return a.equals(b);
  });
}
