/** What `docker info` prints for this driver: the same lines in the same order. */
import { hasCode } from "../../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as sys from "../../sys/syscalls.ts";
import { dockerSize } from "./docker-size.ts";
import type { PoolStatus } from "./pool-status.ts";
import type { LoopFile } from "./thin-pool.ts";

const METADATA_BLOCK = 4096;

export interface StatusFacts {
  readonly poolName: ByteString;
  readonly status: PoolStatus;
  readonly blockBytes: number;
  readonly baseBytes: number;
  readonly baseFileSystem: string;
  /** Loop files, or devices that were given; undefined with a pool that was found ready. */
  readonly data: LoopFile | { readonly device: ByteString } | undefined;
  readonly metadata: LoopFile | { readonly device: ByteString } | undefined;
  readonly minFreePercent: number;
  readonly deferredRemoval: boolean;
  readonly deferredDeletion: boolean;
  readonly deletedDevices: number;
}

/**
 * The lines, without `Library Version`: there is no libdm here. `Udev Sync Supported` is true, as devices and their nodes are
 * there when a call returns.
 */
export function statusLines(facts: StatusFacts): (readonly [string, string])[] {
  const { status, blockBytes, data, metadata } = facts;
  const optional = (key: string, value: ByteString | undefined): (readonly [string, string])[] =>
    value === undefined ? [] : [[key, textOfBytes(value)]];
  const fileOf = (place: StatusFacts["data"]): ByteString | undefined =>
    place !== undefined && "file" in place ? place.file : undefined;
  const minFree = Math.floor((status.totalDataBlocks * facts.minFreePercent) / 100) * blockBytes;
  return [
    ["Pool Name", textOfBytes(facts.poolName)],
    ["Pool Blocksize", dockerSize(blockBytes)],
    ["Base Device Size", dockerSize(facts.baseBytes)],
    ["Backing Filesystem", facts.baseFileSystem],
    ["Udev Sync Supported", "true"],
    ...optional("Data file", data?.device),
    ...optional("Metadata file", metadata?.device),
    ...optional("Data loop file", fileOf(data)),
    ...optional("Metadata loop file", fileOf(metadata)),
    ...space("Data", status.usedDataBlocks * blockBytes, status.totalDataBlocks * blockBytes, fileOf(data)),
    ...space(
      "Metadata",
      status.usedMetadataBlocks * METADATA_BLOCK,
      status.totalMetadataBlocks * METADATA_BLOCK,
      fileOf(metadata),
    ),
    ["Thin Pool Minimum Free Space", dockerSize(minFree)],
    ["Deferred Removal Enabled", String(facts.deferredRemoval)],
    ["Deferred Deletion Enabled", String(facts.deferredDeletion)],
    ["Deferred Deleted Device Count", String(facts.deletedDevices)],
  ];
}

/** A sparse file has no more room than the file system it lies on. */
function space(what: string, used: number, total: number, file: ByteString | undefined): [string, string][] {
  const free = file === undefined ? Number.POSITIVE_INFINITY : freeBeneath(file);
  return [
    [`${what} Space Used`, dockerSize(used)],
    [`${what} Space Total`, dockerSize(total)],
    [`${what} Space Available`, dockerSize(Math.min(total - used, free))],
  ];
}

function freeBeneath(file: ByteString): number {
  try {
    const { blocksFree, blockSize } = sys.statfs(file);
    return blocksFree * blockSize;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return Number.POSITIVE_INFINITY;
    throw error;
  }
}
