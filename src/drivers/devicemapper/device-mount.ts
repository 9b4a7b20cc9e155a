/** Mounting thin devices, and letting the file system on one grow to the device's size. Synchronous: no program is started. */
import { readlinkSync, writeFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode, SyscallError } from "../../errors/syscall-error.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { KernelLog } from "../../fs/kernel-log.ts";
import { umount } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { blockDeviceSize } from "../../sys/block-device.ts";
import { AT_FDCWD, AT_REMOVEDIR, O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { MountOptions } from "./mount-options.ts";
import { readSuperblock, type Superblock } from "./superblock.ts";

// _IOW('f', 16, __u64), which resize2fs uses, and _IOW('X', 110, struct xfs_growfs_data), which xfs_growfs uses.
const EXT4_IOC_RESIZE_FS = 0x40086610;
const XFS_IOC_FSGROWFSDATA = 0x4010586e;

export interface DeviceMountOptions {
  readonly mount: MountOptions;
  readonly xfsNospaceRetries: number | undefined;
}

/** Mounts a device's file system at the directory `target`. */
export function mountDevice(device: ByteString, target: ByteString, options: DeviceMountOptions): void {
  const { fileSystem } = readSuperblock(device);
  const { flags, data } = options.mount;
  // All clones have the UUID of the base device, which xfs would take for one file system mounted twice.
  const all = [...(fileSystem === "xfs" ? ["nouuid"] : []), ...(data === "" ? [] : [data])].join(",");
  using log = new KernelLog();
  try {
    sys.mount(device, target, fileSystem, flags, all);
  } catch (error) {
    throw explained(error, log, fileSystem);
  }
  if (fileSystem !== "xfs" || options.xfsNospaceRetries === undefined) return;
  try {
    limitRetries(device, options.xfsNospaceRetries);
  } catch (error) {
    umount(target);
    throw error;
  }
}

/** A mount that fails says why in the kernel's log, at best. */
function explained(error: unknown, log: KernelLog, fileSystem: string): unknown {
  if (!(error instanceof SyscallError)) return error;
  const prefix = fileSystem === "xfs" ? "XFS (" : "EXT4-fs ";
  const [said] = log.messages(prefix);
  if (said === undefined) return error;
  return new LamellaError(error.kind, error.code, `${error.message}: ${prefix}${said}`, { cause: error });
}

/** How often xfs tries again to write what the pool has no room for. */
function limitRetries(device: ByteString, retries: number): void {
  const stat = sys.statx(AT_FDCWD, device, 0);
  const name = readlinkSync(`/sys/dev/block/${stat.rdevMajor}:${stat.rdevMinor}`).replace(/.*\//, "");
  try {
    writeFileSync(`/sys/fs/xfs/${name}/error/metadata/ENOSPC/max_retries`, String(retries));
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
    throw new LamellaError(
      "failed_precondition",
      "XFS_RETRIES",
      "devmapper: user specified daemon option dm.xfs_nospace_max_retries but it does not seem to be supported on this system",
      { hint: "it needs Linux 4.9; leave the option out", cause: error },
    );
  }
}

/** Runs `body` with a device mounted at a directory that is made for it, writable whatever the options say. */
export function withMountedDevice<T>(device: ByteString, directory: ByteString, body: () => T): T {
  makeDirectory(directory, 0o700);
  try {
    mountDevice(device, directory, { mount: { flags: 0, data: "" }, xfsNospaceRetries: undefined });
    try {
      return body();
    } finally {
      umount(directory);
    }
  } finally {
    raw.unlinkat(AT_FDCWD, directory, AT_REMOVEDIR);
  }
}

/** Lets the file system of a device grow to the device's size; it is mounted at `directory` meanwhile. */
export function growFileSystem(device: ByteString, directory: ByteString): void {
  const superblock = readSuperblock(device);
  const blocks = Math.floor(sizeOf(device) / superblock.blockBytes);
  withMountedDevice(device, directory, () => {
    using root = sys.open(directory, O_RDONLY | O_DIRECTORY);
    const r = grow(root.fd, superblock, blocks);
    if (r < 0) throw new SyscallError(`growing ${superblock.fileSystem}`, -r, device);
  });
}

function grow(fd: number, { fileSystem, inodePercent }: Superblock, blocks: number): number {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(BigInt(blocks), 0);
  argument.writeUInt32LE(inodePercent, 8);
  return raw.ioctl(fd, fileSystem === "xfs" ? XFS_IOC_FSGROWFSDATA : EXT4_IOC_RESIZE_FS, argument);
}

function sizeOf(device: ByteString): number {
  using file = sys.open(device, O_RDONLY);
  return blockDeviceSize(file.fd, device);
}
