/**
 * Reading btrfs's trees item by item: BTRFS_IOC_TREE_SEARCH_V2, which needs CAP_SYS_ADMIN in the initial user namespace.
 *
 *     search_args_v2   u64 tree_id | u64 min_objectid | u64 max_objectid | u64 min_offset | u64 max_offset |
 *                      u64 min_transid | u64 max_transid | u32 min_type | u32 max_type | u32 nr_items | 36 bytes |
 *                      u64 buf_size | buf: { u64 transid | u64 objectid | u64 offset | u32 type | u32 len | item }…
 *
 * A key is (objectid, type, offset), compared in this order; a search gives all items between two keys. What is still in
 * memory only (delayed items, data not yet allocated) is not found.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import * as raw from "./raw.ts";

const BTRFS_IOC_TREE_SEARCH_V2 = 0xc0709411;
const HEADER = 112;
const BUFFER = 64 * 1024 + 4096;
const MOST = 0xffffffffffffffffn;

/** Numbers of trees. */
export const BTRFS_QUOTA_TREE_OBJECTID = 8;

/** Types of items. */
export const BTRFS_INODE_ITEM_KEY = 1;
export const BTRFS_INODE_REF_KEY = 12;
export const BTRFS_INODE_EXTREF_KEY = 13;
export const BTRFS_EXTENT_DATA_KEY = 108;
export const BTRFS_QGROUP_STATUS_KEY = 240;

/** The items to be read: all between two keys. */
export interface TreeRange {
  /** 0 for the subvolume of the open object. */
  readonly tree: number;
  readonly objectIds: readonly [from: number, to: number];
  readonly types: readonly [from: number, to: number];
  readonly offsets?: readonly [from: number, to: number];
  /** Only items in blocks written in this transaction or a later one. */
  readonly sinceTransaction?: number;
}

export interface TreeItem {
  readonly objectId: number;
  readonly type: number;
  readonly offset: number;
  /** Valid until the next item is asked for. */
  readonly data: Buffer;
}

/** Inode numbers that files can have end here. */
export const BTRFS_LAST_FREE_OBJECTID = Number.MAX_SAFE_INTEGER;

/** Items of a tree of the file system that holds the open object, by key. Errors: EPERM, ENOENT (no such tree). */
export function* treeItems(fd: number, range: TreeRange): Generator<TreeItem> {
  const args = Buffer.alloc(HEADER + BUFFER);
  const from = { objectId: BigInt(range.objectIds[0]), type: range.types[0], offset: BigInt(range.offsets?.[0] ?? 0) };
  for (;;) {
    args.writeBigUInt64LE(BigInt(range.tree), 0);
    args.writeBigUInt64LE(from.objectId, 8);
    args.writeBigUInt64LE(BigInt(range.objectIds[1]), 16);
    args.writeBigUInt64LE(from.offset, 24);
    args.writeBigUInt64LE(range.offsets === undefined ? MOST : BigInt(range.offsets[1]), 32);
    args.writeBigUInt64LE(BigInt(range.sinceTransaction ?? 0), 40);
    args.writeBigUInt64LE(MOST, 48);
    args.writeUInt32LE(from.type, 56);
    args.writeUInt32LE(range.types[1], 60);
    args.writeUInt32LE(0xffffffff, 64);
    args.writeBigUInt64LE(BigInt(BUFFER), 104);
    const r = raw.ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, args);
    if (r < 0) throw new SyscallError("ioctl BTRFS_IOC_TREE_SEARCH_V2", -r);
    const count = args.readUInt32LE(64);
    if (count === 0) return;
    let at = HEADER;
    for (let i = 0; i < count; i++) {
      from.objectId = args.readBigUInt64LE(at + 8);
      from.offset = args.readBigUInt64LE(at + 16);
      from.type = args.readUInt32LE(at + 24);
      const end = at + 32 + args.readUInt32LE(at + 28);
      const { type } = from;
      // The range is one of keys, not of types: of objects between the first and the last, all types are in it.
      if (type >= range.types[0] && type <= range.types[1])
        yield { objectId: Number(from.objectId), type, offset: Number(from.offset), data: args.subarray(at + 32, end) };
      at = end;
    }
    if (!advance(from)) return;
  }
}

/** The next key; false after the last. */
function advance(key: { objectId: bigint; type: number; offset: bigint }): boolean {
  if (key.offset < MOST) key.offset++;
  else if (key.type < 255) {
    key.offset = 0n;
    key.type++;
  } else if (key.objectId < MOST) {
    key.objectId++;
    key.type = 0;
    key.offset = 0n;
  } else return false;
  return true;
}
