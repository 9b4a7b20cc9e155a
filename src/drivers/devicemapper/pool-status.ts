/**
 * What a thin pool tells of itself (Documentation/admin-guide/device-mapper/thin-provisioning.rst, "Status"):
 *
 *     <transaction id> <used>/<total metadata blocks> <used>/<total data blocks> <held metadata root | -> <mode> ...
 *
 * Metadata blocks are 4 KiB; data blocks are as large as the pool's table says.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import type { DmTarget } from "../../sys/device-mapper.ts";

export interface PoolStatus {
  readonly transactionId: number;
  readonly usedMetadataBlocks: number;
  readonly totalMetadataBlocks: number;
  readonly usedDataBlocks: number;
  readonly totalDataBlocks: number;
  /** Block of the metadata snapshot's superblock, when one is held. */
  readonly heldRoot: number | undefined;
  /** It takes no changes: its metadata ran full, or must be checked. */
  readonly readOnly: boolean;
}

/** Errors: data_loss for a pool that has failed, failed_precondition for a device that is no pool. */
export function parsePoolStatus(name: string, { type, parameters }: DmTarget): PoolStatus {
  if (type !== "thin-pool")
    throw new LamellaError("failed_precondition", "NOT_A_POOL", `devmapper: Device ${name} is not a thin pool`, {
      hint: "dm.thinpooldev names a thin pool, as `dmsetup ls --target thin-pool` lists them",
    });
  const match = /^(\d+) (\d+)\/(\d+) (\d+)\/(\d+) (\d+|-)(.*)$/.exec(parameters);
  if (match === null)
    throw new LamellaError("data_loss", "POOL_FAILED", `the thin pool ${name} has failed: ${parameters}`, {
      hint: "see the kernel's log; thin_check and thin_repair (thin-provisioning-tools) mend its metadata",
    });
  const words = (match[7] ?? "").split(" ");
  const number = (i: number): number => Number(match[i]);
  return {
    transactionId: number(1),
    usedMetadataBlocks: number(2),
    totalMetadataBlocks: number(3),
    usedDataBlocks: number(4),
    totalDataBlocks: number(5),
    heldRoot: match[6] === "-" ? undefined : number(6),
    readOnly: words.includes("ro") || words.includes("needs_check"),
  };
}

/** Throws failed_precondition for a pool that takes no changes. */
export function checkWritable(name: string, status: PoolStatus): void {
  if (!status.readOnly) return;
  throw new LamellaError("failed_precondition", "POOL_READ_ONLY", `the thin pool ${name} is read-only`, {
    hint: "its metadata ran full or is damaged: see the kernel's log, then thin_check --clear-needs-check-flag",
  });
}

/** A pool's table: `<metadata device> <data device> <sectors a data block> ...`; devices as `major:minor`. */
export interface PoolTable {
  readonly metadataDevice: string;
  readonly dataDevice: string;
  readonly blockBytes: number;
}

export function parsePoolTable({ parameters }: DmTarget): PoolTable {
  const [metadataDevice = "", dataDevice = "", sectors = "0"] = parameters.split(" ");
  return { metadataDevice, dataDevice, blockBytes: Number(sectors) * 512 };
}

/** Throws resource_exhausted when less of the pool is free than is asked for. Docker's words. */
export function checkFreeSpace(status: PoolStatus, minFreePercent: number): void {
  if (minFreePercent === 0) return;
  const check = (what: "data" | "metadata", total: number, used: number): void => {
    const least = Math.max(1, Math.floor((total * minFreePercent) / 100));
    if (total - used >= least) return;
    throw new LamellaError(
      "resource_exhausted",
      "POOL_SPACE",
      `devmapper: Thin Pool has ${total - used} free ${what} blocks which is less than minimum required ${least} free ` +
        `${what} blocks. Create more free ${what === "data" ? "" : "metadata "}space in thin pool or use ` +
        "dm.min_free_space option to change behavior",
      { hint: "`lamella gc` gives back what nothing refers to" },
    );
  };
  check("data", status.totalDataBlocks, status.usedDataBlocks);
  check("metadata", status.totalMetadataBlocks, status.usedMetadataBlocks);
}
