/**
 * btrfs's quota groups: what a subvolume may hold. Each subvolume has the group 0/<its tree's number>. All calls need
 * CAP_SYS_ADMIN, in the initial user namespace for reading the state.
 *
 *     quota_ctl_args      u64 cmd | u64 status                                                            16 bytes
 *     quota_rescan_args   u64 flags | u64 progress | 48 bytes                                             64 bytes
 *     qgroup_create_args  u64 create | u64 qgroupid                                                       16 bytes
 *     qgroup_limit_args   u64 qgroupid | u64 flags | u64 max_rfer | u64 max_excl | u64 rsv_rfer | u64 rsv_excl   48
 *     status item         u64 version | u64 generation | u64 flags | …
 */
import { hasCode, SyscallError } from "../errors/syscall-error.ts";
import { BTRFS_QGROUP_STATUS_KEY, BTRFS_QUOTA_TREE_OBJECTID, treeItems } from "./btrfs-search.ts";
import * as raw from "./raw.ts";

const BTRFS_IOC_QUOTA_CTL = 0xc0109428;
const BTRFS_IOC_QGROUP_CREATE = 0x4010942a;
const BTRFS_IOC_QGROUP_LIMIT = 0x8030942b;
const BTRFS_IOC_QUOTA_RESCAN_STATUS = 0x8040942d;

const BTRFS_QUOTA_CTL_ENABLE = 1n;
const BTRFS_QGROUP_LIMIT_MAX_RFER = 1n;
const BTRFS_QGROUP_STATUS_FLAG_ON = 1n;

function check(call: string, result: number): void {
  if (result < 0) throw new SyscallError(`ioctl ${call}`, -result);
}

/** True when the file system that holds the open object keeps quotas. Errors: EPERM. */
export function quotaIsOn(fd: number): boolean {
  const types = [BTRFS_QGROUP_STATUS_KEY, BTRFS_QGROUP_STATUS_KEY] as const;
  try {
    for (const { data } of treeItems(fd, { tree: BTRFS_QUOTA_TREE_OBJECTID, objectIds: [0, 0], types }))
      return (data.readBigUInt64LE(16) & BTRFS_QGROUP_STATUS_FLAG_ON) !== 0n;
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
  return false;
}

/** Turns quotas on; the kernel then counts what there is. */
export async function enableQuota(fd: number): Promise<void> {
  const args = Buffer.alloc(16);
  args.writeBigUInt64LE(BTRFS_QUOTA_CTL_ENABLE, 0);
  check("BTRFS_IOC_QUOTA_CTL", await raw.ioctlInThread(fd, BTRFS_IOC_QUOTA_CTL, args));
}

/** True while the kernel counts what there is. */
export function quotaIsCounting(fd: number): boolean {
  const args = Buffer.alloc(64);
  check("BTRFS_IOC_QUOTA_RESCAN_STATUS", raw.ioctl(fd, BTRFS_IOC_QUOTA_RESCAN_STATUS, args));
  return args.readBigUInt64LE(0) !== 0n;
}

/** Limits what the subvolume that holds the open object may refer to, shared or not. */
export function limitSubvolume(fd: number, sizeBytes: number): void {
  const args = Buffer.alloc(48);
  args.writeBigUInt64LE(BTRFS_QGROUP_LIMIT_MAX_RFER, 8);
  args.writeBigUInt64LE(BigInt(sizeBytes), 16);
  check("BTRFS_IOC_QGROUP_LIMIT", raw.ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, args));
}

/** Removes the group of a subvolume, or answers -errno: EBUSY where the kernel does that itself (Linux 6.11), once the subvolume is gone. */
export function removeQuotaGroup(fd: number, subvolume: number): number {
  const args = Buffer.alloc(16);
  args.writeBigUInt64LE(BigInt(subvolume), 8);
  return raw.ioctl(fd, BTRFS_IOC_QGROUP_CREATE, args);
}
