/** Size limits of layers, by btrfs's quota groups, with Docker's meaning: a limit counts all a layer's tree refers to. */
import { setTimeout } from "node:timers/promises";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { humanSize } from "../../lib/human-size.ts";
import { enableQuota, quotaIsCounting, quotaIsOn } from "../../sys/btrfs-quota.ts";

/** Errors: invalid_argument for a limit that is nothing, or less than the option btrfs.min_space allows. */
export function checkSize(sizeBytes: number, minSpaceBytes: number | undefined): void {
  const wrong = (message: string, hint: string): LamellaError =>
    new LamellaError("invalid_argument", "STORAGE_SIZE", `btrfs: ${message}`, { hint });
  if (!(sizeBytes > 0)) throw wrong(`invalid storage size: ${humanSize(sizeBytes)}`, "give a size such as 10G");
  if (minSpaceBytes !== undefined && sizeBytes < minSpaceBytes)
    throw wrong(
      `storage size cannot be less than ${humanSize(minSpaceBytes)}`,
      "give a greater size, or lower the driver's option btrfs.min_space",
    );
}

/**
 * Turns quotas on unless they are, and waits until all that is there has been counted. Errors: failed_precondition when the
 * caller may not.
 */
export async function turnQuotaOn(fd: number): Promise<void> {
  try {
    if (!quotaIsOn(fd)) await enableQuota(fd);
    while (quotaIsCounting(fd)) await setTimeout(20);
  } catch (error) {
    if (!hasCode(error, "EPERM")) throw error;
    throw new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", "btrfs: quotas need CAP_SYS_ADMIN", {
      hint: "leave out the size, or run as root outside a user namespace",
      cause: error,
    });
  }
}
