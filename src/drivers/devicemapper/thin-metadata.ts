/**
 * A thin pool's metadata, read as thin_delta and thin_dump do (kernel: drivers/md/dm-thin-metadata.c, persistent-data/
 * dm-btree-internal.h): which blocks a thin device has of its own. Blocks of 4 KiB, little-endian:
 *
 *     superblock                        B-tree node
 *       32  u64 magic                      4  u32 flags: 1 internal, 2 leaf
 *      320  u64 root of the mappings      16  u32 entries, u32 most entries, u32 size of a value
 *      336  u32 data block, in sectors    32  u64 keys[most], values[most]
 *
 * The mappings are a tree of trees: device number → root of that device's tree; block of the device → block of the pool << 24
 * | the time it was mapped. Snapshots share nodes, so two devices are compared by reading the nodes they do not share.
 *
 * What is read must not change meanwhile: a metadata snapshot is, as long as it is held.
 */
import { LamellaError } from "../../errors/lamella-error.ts";

export const METADATA_BLOCK = 4096;

const POOL_MAGIC = 27022010n;
const MAGIC = 32;
const MAPPING_ROOT = 320;
const DATA_BLOCK_SECTORS = 336;
const INTERNAL = 1;
const NODE_HEADER = 32;

/** Reads the metadata's block of that number. */
export type ReadBlock = (block: number) => Buffer;

/** Sectors of a data block, by the first block of a pool's metadata; undefined when there are none yet. */
export function dataBlockSectors(superblock: Buffer): number | undefined {
  if (superblock.length < METADATA_BLOCK || superblock.readBigUInt64LE(MAGIC) !== POOL_MAGIC) return undefined;
  return superblock.readUInt32LE(DATA_BLOCK_SECTORS);
}

/** One block of a device that differs from its origin's. Block numbers count in the pool's data blocks. */
export interface BlockDifference {
  /** Where in the device. */
  readonly block: number;
  /** Where in the pool, undefined for a hole. */
  readonly data: number | undefined;
  readonly originData: number | undefined;
}

/** The blocks in which two thin devices differ, in order. `root`: the block of the (held) superblock. */
export function compareDevices(read: ReadBlock, root: number, originId: number, deviceId: number): BlockDifference[] {
  const superblock = read(root);
  if (dataBlockSectors(superblock) === undefined) throw damaged(root);
  const devices = Number(superblock.readBigUInt64LE(MAPPING_ROOT));
  const [origin, device] = [originId, deviceId].map((id) => lookUp(read, devices, id)) as [number, number];
  if (origin === device) return [];
  const originLeaves = new Set(leavesOf(read, origin));
  const leaves = leavesOf(read, device);
  const shared = new Set(leaves.filter((leaf) => originLeaves.has(leaf)));
  const ours = entriesOf(read, leaves, shared);
  const theirs = entriesOf(read, originLeaves, shared);
  const differences: BlockDifference[] = [];
  for (const [block, data] of ours) {
    const originData = theirs.get(block);
    if (originData !== data) differences.push({ block, data, originData });
  }
  for (const [block, originData] of theirs)
    if (!ours.has(block)) differences.push({ block, data: undefined, originData });
  return differences.sort((a, b) => a.block - b.block);
}

/** The root of a device's own tree. */
function lookUp(read: ReadBlock, root: number, deviceId: number): number {
  for (let at = root; ; ) {
    const node = new Node(read(at), at);
    const i = node.lastAtMost(deviceId);
    if (i < 0 || (!node.isInternal && node.key(i) !== deviceId))
      throw new LamellaError("data_loss", "NO_THIN_DEVICE", `the thin pool has no device ${deviceId}`);
    if (!node.isInternal) return node.value(i);
    at = node.value(i);
  }
}

/** Block numbers of all leaves of a tree, in order. The leaves themselves are not read. */
function leavesOf(read: ReadBlock, root: number): number[] {
  let level = [root];
  while (level[0] !== undefined) {
    const first = new Node(read(level[0]), level[0]);
    if (!first.isInternal) return level;
    level = level.flatMap((block) => new Node(read(block), block).values());
  }
  return [];
}

/** What leaves map, except those passed over: block of the device → block of the pool. */
function entriesOf(read: ReadBlock, leaves: Iterable<number>, without: ReadonlySet<number>): Map<number, number> {
  const entries = new Map<number, number>();
  for (const leaf of leaves) {
    if (without.has(leaf)) continue;
    const node = new Node(read(leaf), leaf);
    for (let i = 0; i < node.entries; i++) entries.set(node.key(i), node.dataBlock(i));
  }
  return entries;
}

class Node {
  readonly isInternal: boolean;
  readonly entries: number;
  readonly #bytes: Buffer;
  readonly #valuesAt: number;

  constructor(bytes: Buffer, block: number) {
    const most = bytes.readUInt32LE(20);
    this.#bytes = bytes;
    this.#valuesAt = NODE_HEADER + 8 * most;
    this.isInternal = (bytes.readUInt32LE(4) & INTERNAL) !== 0;
    this.entries = bytes.readUInt32LE(16);
    if (this.entries > most || this.#valuesAt + 8 * most > METADATA_BLOCK || bytes.readUInt32LE(24) !== 8)
      throw damaged(block);
  }

  key(i: number): number {
    return this.#number(NODE_HEADER + 8 * i);
  }

  /** A block of the metadata: a node's child, or the root of a device's tree. */
  value(i: number): number {
    return this.#number(this.#valuesAt + 8 * i);
  }

  /** Of a leaf of a device's tree: a block of the pool. */
  dataBlock(i: number): number {
    const at = this.#valuesAt + 8 * i;
    return (this.#bytes.readUInt32LE(at) >>> 24) + this.#bytes.readUInt32LE(at + 4) * 2 ** 8;
  }

  values(): number[] {
    return Array.from({ length: this.entries }, (_, i) => this.value(i));
  }

  /** Index of the last key that is not above `wanted`; -1 when all are. */
  lastAtMost(wanted: number): number {
    let i = this.entries - 1;
    while (i >= 0 && this.key(i) > wanted) i--;
    return i;
  }

  #number(at: number): number {
    return this.#bytes.readUInt32LE(at) + this.#bytes.readUInt32LE(at + 4) * 2 ** 32;
  }
}

function damaged(block: number): LamellaError {
  return new LamellaError("data_loss", "POOL_METADATA", `block ${block} of the thin pool's metadata makes no sense`, {
    hint: "check the pool with thin_check",
  });
}
