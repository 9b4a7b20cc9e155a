/**
 * Project quotas: the project of an inode (ioctl FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR) and the limits of a project (quotactl
 * with XFS's commands, which ext4 answers too). Like ./raw.ts: results, or -errno.
 * Source: include/uapi/linux/{fs,quota,dqblk_xfs}.h.
 */
import type { ByteString } from "../lib/bytes.ts";
import * as raw from "./raw.ts";

const ENOSYS = 38;
const EBADF = 9;

const FS_IOC_FSGETXATTR = 0x801c581f;
const FS_IOC_FSSETXATTR = 0x401c5820;
const FS_XFLAG_PROJINHERIT = 0x200;

const Q_XGETQUOTA = 0x5803;
const Q_XSETQLIM = 0x5804;
const Q_XGETQSTAT = 0x5805;
const PRJQUOTA = 2;
const FS_QUOTA_PDQ_ACCT = 1 << 4;
const FS_QUOTA_PDQ_ENFD = 1 << 5;
const FS_DQUOT_VERSION = 1;
const FS_PROJ_QUOTA = 2;
const FS_DQ_BSOFT = 1 << 2;
const FS_DQ_BHARD = 1 << 3;
/** Blocks in struct fs_disk_quota, whatever the file system's are. */
const BASIC_BLOCK_BYTES = 512;

/** How a file system is named to the kernel: by an open file of it, or by its block device where Linux is older than 5.14. */
export type QuotaTarget = { readonly fd: number } | { readonly device: ByteString };

/** What is known of one inode's project. 0 is what all have that were never given one. */
export interface InodeProject {
  readonly id: number;
  /** What is made in the directory gets the same project. */
  readonly inherits: boolean;
}

export interface ProjectUsage {
  /** 0: none. */
  readonly limitBytes: number;
  readonly usedBytes: number;
  readonly inodes: number;
}

/** Of the file or directory behind `fd`. */
export function projectOf(fd: number): InodeProject | number {
  const attributes = Buffer.alloc(28);
  const r = raw.ioctl(fd, FS_IOC_FSGETXATTR, attributes);
  if (r < 0) return r;
  return { id: attributes.readUInt32LE(12), inherits: (attributes.readUInt32LE(0) & FS_XFLAG_PROJINHERIT) !== 0 };
}

/** Gives a directory a project, which what is made in it will get too. */
export function setProject(fd: number, id: number): number {
  const attributes = Buffer.alloc(28);
  const r = raw.ioctl(fd, FS_IOC_FSGETXATTR, attributes);
  if (r < 0) return r;
  attributes.writeUInt32LE((attributes.readUInt32LE(0) | FS_XFLAG_PROJINHERIT) >>> 0, 0);
  attributes.writeUInt32LE(id, 12);
  return raw.ioctl(fd, FS_IOC_FSSETXATTR, attributes);
}

/** False when the kernel has no quotas at all. */
export function kernelHasQuotas(): boolean {
  // No device has this name: a kernel that knows the call says ENOENT.
  return raw.quotactl(command(Q_XGETQSTAT), "", 0, Buffer.alloc(0)) !== -ENOSYS;
}

/** False where a file system can only be named by its block device. */
export function kernelHasQuotactlFd(): boolean {
  return raw.quotactl_fd(-1, command(Q_XGETQSTAT), 0, Buffer.alloc(0)) === -EBADF;
}

/** What the file system does about projects; both are false where it knows of none. */
export function projectQuotaState(target: QuotaTarget): { accounts: boolean; enforces: boolean } | number {
  const state = Buffer.alloc(128);
  const r = call(target, Q_XGETQSTAT, 0, state);
  if (r < 0) return r;
  const flags = state.readUInt16LE(2);
  return { accounts: (flags & FS_QUOTA_PDQ_ACCT) !== 0, enforces: (flags & FS_QUOTA_PDQ_ENFD) !== 0 };
}

/** Errors: -ENOENT where nobody has used the project yet, as far as the file system tells. */
export function projectUsage(target: QuotaTarget, id: number): ProjectUsage | number {
  const quota = Buffer.alloc(112);
  const r = call(target, Q_XGETQUOTA, id, quota);
  if (r < 0) return r;
  const number = (offset: number): number => Number(quota.readBigUInt64LE(offset));
  return {
    limitBytes: number(8) * BASIC_BLOCK_BYTES,
    usedBytes: number(40) * BASIC_BLOCK_BYTES,
    inodes: number(48),
  };
}

/** Sets the most that all inodes of a project may take together; 0 for no limit. */
export function setProjectLimit(target: QuotaTarget, id: number, limitBytes: number): number {
  const quota = Buffer.alloc(112);
  const blocks = BigInt(Math.floor(limitBytes / BASIC_BLOCK_BYTES));
  quota.writeInt8(FS_DQUOT_VERSION, 0);
  quota.writeInt8(FS_PROJ_QUOTA, 1);
  quota.writeUInt16LE(FS_DQ_BHARD | FS_DQ_BSOFT, 2);
  quota.writeUInt32LE(id, 4);
  quota.writeBigUInt64LE(blocks, 8);
  quota.writeBigUInt64LE(blocks, 16);
  return call(target, Q_XSETQLIM, id, quota);
}

function command(code: number): number {
  return code * 256 + PRJQUOTA;
}

function call(target: QuotaTarget, code: number, id: number, argument: Uint8Array): number {
  return "fd" in target
    ? raw.quotactl_fd(target.fd, command(code), id, argument)
    : raw.quotactl(command(code), target.device, id, argument);
}
