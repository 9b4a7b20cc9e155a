/**
 * What a layer takes by itself: the extents and inodes that were made in it since it was cloned from its parent. Read from
 * the blocks of its tree that are not shared with the parent, whatever the parent's size; the figure stays the same when
 * others are cloned from the layer, which btrfs's own counters of exclusive space do not.
 *
 * Counted as `du` counts: what files refer to, in whole blocks, before compression.
 */
import { setImmediate } from "node:timers/promises";
import { BTRFS_FIRST_FREE_OBJECTID } from "../../sys/btrfs.ts";
import {
  BTRFS_EXTENT_DATA_KEY,
  BTRFS_INODE_ITEM_KEY,
  BTRFS_LAST_FREE_OBJECTID,
  treeItems,
} from "../../sys/btrfs-search.ts";
import type { LayerUsage } from "../driver.ts";

const INLINE = 0;
/** Items to read before others get a turn. */
const TURN = 5000;

/**
 * Sums up what the subvolume whose root is open has from transactions after `madeIn`. What is not written to disk yet does
 * not count. Errors: EPERM without CAP_SYS_ADMIN in the initial user namespace.
 *
 *     inode item    u64 generation | u64 transid | u64 size | u64 nbytes | u64 block_group | u32 nlink | …
 *     extent item   u64 generation | u64 ram_bytes | 4 bytes | u8 type | inline data, or
 *                   u64 disk_bytenr | u64 disk_num_bytes | u64 offset | u64 num_bytes
 */
export async function writtenSince(fd: number, madeIn: number, blockSize: number): Promise<LayerUsage> {
  let sizeBytes = 0;
  let inodes = 0;
  let read = 0;
  const range = {
    tree: 0,
    objectIds: [BTRFS_FIRST_FREE_OBJECTID, BTRFS_LAST_FREE_OBJECTID],
    types: [BTRFS_INODE_ITEM_KEY, BTRFS_EXTENT_DATA_KEY],
    sinceTransaction: madeIn + 1,
  } as const;
  for (const { type, data } of treeItems(fd, range)) {
    if (++read % TURN === 0) await setImmediate();
    if (type !== BTRFS_INODE_ITEM_KEY && type !== BTRFS_EXTENT_DATA_KEY) continue;
    if (Number(data.readBigUInt64LE(0)) <= madeIn) continue;
    if (type === BTRFS_INODE_ITEM_KEY) {
      if (data.readUInt32LE(40) > 0) inodes++;
    } else if (data[20] === INLINE) sizeBytes += Math.ceil(Number(data.readBigUInt64LE(8)) / blockSize) * blockSize;
    else if (data.readBigUInt64LE(21) !== 0n) sizeBytes += Number(data.readBigUInt64LE(45));
  }
  return { sizeBytes, inodes };
}
