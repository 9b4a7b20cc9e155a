/** Comparing two thin devices by the pool's metadata, read from a metadata snapshot that is held meanwhile. */
import { readFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { O_DIRECT, O_RDONLY } from "../../sys/constants.ts";
import { alignedBuffer } from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { type BlockDifference, compareDevices, METADATA_BLOCK } from "./thin-metadata.ts";
import type { ThinPool } from "./thin-pool.ts";

export interface PoolComparison {
  readonly differences: readonly BlockDifference[];
  readonly blockBytes: number;
  /** Reads a data block of the pool, by its number there. */
  readonly readData: (block: number) => Buffer;
}

/**
 * Runs `body` with the blocks in which a thin device differs from its origin. Called with the pool's lock held, and no metadata
 * snapshot of our own there. Errors: unavailable while somebody else holds one.
 */
export function compareInPool<T>(
  pool: ThinPool,
  originId: number,
  deviceId: number,
  body: (comparison: PoolComparison) => T,
): T {
  if (!pool.reserveMetadataSnapshot()) throw taken(pool.name);
  try {
    const { metadataDevice, dataDevice, blockBytes } = pool.table();
    const root = pool.status({ noflush: true }).heldRoot;
    if (root === undefined) throw taken(pool.name);
    using metadata = openDirect(metadataDevice);
    using data = openDirect(dataDevice);
    const differences = compareDevices((block) => readAt(metadata, block, METADATA_BLOCK), root, originId, deviceId);
    return body({ differences, blockBytes, readData: (block) => readAt(data, block, blockBytes) });
  } finally {
    pool.releaseMetadataSnapshot();
  }
}

/** Opened around the page cache, as the pool reads and writes around it, too. */
function openDirect(number: string): sys.OwnedFd {
  const uevent = readFileSync(`/sys/dev/block/${number}/uevent`, "latin1");
  const name = /^DEVNAME=(.*)$/m.exec(uevent)?.[1];
  if (name !== undefined) return sys.open(`/dev/${name}`, O_RDONLY | O_DIRECT);
  throw new LamellaError("not_found", "NO_DEVICE", `the kernel has no block device ${number}`);
}

function readAt(file: sys.OwnedFd, block: number, size: number): Buffer {
  const bytes = alignedBuffer(size);
  const n = sys.pread64(file.fd, bytes, size, block * size);
  return n === size ? bytes : bytes.fill(0, Math.max(0, n));
}

function taken(pool: ByteString): LamellaError {
  return new LamellaError(
    "unavailable",
    "METADATA_SNAPSHOT",
    `somebody else holds the metadata snapshot of the thin pool ${textOfBytes(pool)}`,
    { hint: `end what reads the pool's metadata, or: dmsetup message ${textOfBytes(pool)} 0 release_metadata_snap` },
  );
}
