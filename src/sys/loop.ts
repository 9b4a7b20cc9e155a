/**
 * Loop devices (linux/loop.h): a block device over a file. Made so that they go by themselves (autoclear) when whoever uses
 * them, a mount or another device, is through with them: a crash leaves none behind.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_RDONLY, O_RDWR, S_IFBLK } from "./constants.ts";
import * as raw from "./raw.ts";
import { OwnedFd, open, openat } from "./syscalls.ts";

const ENOENT = 2;
const EBUSY = 16;
const EINVAL = 22;
const ENOTTY = 25;

const LOOP_SET_FD = 0x4c00;
const LOOP_CLR_FD = 0x4c01;
const LOOP_SET_STATUS64 = 0x4c04;
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;
const LO_FLAGS_AUTOCLEAR = 4;
const LOOP_MAJOR = 7;

/** struct loop_info64, and where its flags and its file's name are. */
const INFO_SIZE = 232;
const INFO_FLAGS = 52;
const INFO_NAME = 56;
/** struct loop_config: u32 fd, u32 block_size, struct loop_info64, u64 reserved[8]. */
const CONFIG_SIZE = 8 + INFO_SIZE + 64;
/** Free numbers are handed out without being reserved: how often somebody else may be quicker. */
const ATTEMPTS = 64;

/** A loop device, kept by its descriptor until something else uses it. */
export interface LoopDevice extends Disposable {
  readonly path: ByteString;
  readonly major: number;
  readonly minor: number;
}

/** struct loop_config for a file's descriptor. */
export function encodeLoopConfig(fd: number, fileName: ByteString): Buffer {
  const config = Buffer.alloc(CONFIG_SIZE);
  config.writeUInt32LE(fd, 0);
  encodeLoopInfo(fileName).copy(config, 8);
  return config;
}

/** struct loop_info64: autoclear, and the file's name as `losetup` shows it. */
function encodeLoopInfo(fileName: ByteString): Buffer {
  const info = Buffer.alloc(INFO_SIZE);
  info.writeUInt32LE(LO_FLAGS_AUTOCLEAR, INFO_FLAGS);
  info.write(fileName.slice(0, 63), INFO_NAME, "latin1");
  return info;
}

/** Puts a loop device over the file at `path`. Errors: those of the calls; ENOENT where the kernel has no loop devices. */
export function attachLoop(path: ByteString): LoopDevice {
  using file = open(path, O_RDWR);
  using control = open("/dev/loop-control", O_RDWR);
  for (let i = 0; i < ATTEMPTS; i++) {
    const minor = raw.ioctlNumber(control.fd, LOOP_CTL_GET_FREE, 0);
    if (minor < 0) throw new SyscallError("ioctl LOOP_CTL_GET_FREE", -minor, "/dev/loop-control");
    const device = openLoop(minor);
    const r = configure(device.fd, file.fd, path);
    if (r >= 0)
      return { path: loopPath(minor), major: LOOP_MAJOR, minor, [Symbol.dispose]: () => device[Symbol.dispose]() };
    device[Symbol.dispose]();
    if (r !== -EBUSY) throw new SyscallError("ioctl LOOP_CONFIGURE", -r, textOfBytes(path));
  }
  throw new SyscallError("ioctl LOOP_CONFIGURE", EBUSY, textOfBytes(path));
}

/** Ties a file to a free loop device. 0, or -errno. */
function configure(device: number, file: number, path: ByteString): number {
  const r = raw.ioctl(device, LOOP_CONFIGURE, encodeLoopConfig(file, path));
  if (r !== -EINVAL && r !== -ENOTTY) return r;
  // Before Linux 5.8.
  const set = raw.ioctlNumber(device, LOOP_SET_FD, file);
  if (set < 0) return set;
  const status = raw.ioctl(device, LOOP_SET_STATUS64, encodeLoopInfo(path));
  if (status < 0) raw.ioctlNumber(device, LOOP_CLR_FD, 0);
  return status;
}

/** True when the device is a loop device over the file. */
export function isLoopOver(device: { readonly major: number; readonly minor: number }, file: raw.Stat): boolean {
  if (device.major !== LOOP_MAJOR) return false;
  const fd = raw.openat(AT_FDCWD, loopPath(device.minor), O_RDONLY);
  if (fd < 0) return false;
  using opened = new OwnedFd(fd);
  const info = Buffer.alloc(INFO_SIZE);
  if (raw.ioctl(opened.fd, LOOP_GET_STATUS64, info) < 0) return false;
  const inode = (BigInt(file.inoHigh) << 32n) | BigInt(file.inoLow);
  return info.readBigUInt64LE(8) === inode && sameDevice(info.readBigUInt64LE(0), file);
}

/** Whether huge_encode_dev's number is the device of a file. */
function sameDevice(dev: bigint, { devMajor, devMinor }: raw.Stat): boolean {
  return dev === BigInt.asUintN(64, BigInt((devMinor & 0xff) | (devMajor << 8)) | (BigInt(devMinor & ~0xff) << 12n));
}

/** Path of a loop device's node. */
export function loopPath(minor: number): ByteString {
  return `/dev/loop${minor}`;
}

function openLoop(minor: number): OwnedFd {
  const path = loopPath(minor);
  const fd = raw.openat(AT_FDCWD, path, O_RDWR);
  if (fd >= 0) return new OwnedFd(fd);
  if (fd !== -ENOENT) throw new SyscallError("openat", -fd, path);
  // Nobody makes nodes here, or not yet.
  const r = raw.mknodat(AT_FDCWD, path, S_IFBLK | 0o660, LOOP_MAJOR, minor);
  if (r < 0 && r !== -17) throw new SyscallError("mknodat", -r, path);
  return new OwnedFd(openat(AT_FDCWD, path, O_RDWR));
}
