/** Block devices (linux/fs.h). */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { O_RDWR } from "./constants.ts";
import * as raw from "./raw.ts";
import { open } from "./syscalls.ts";

const BLKGETSIZE64 = 0x80081272;
const BLKDISCARD = 0x1277;

/** Size in bytes of the open device `fd`. */
export function blockDeviceSize(fd: number, path: ByteString): number {
  const size = Buffer.alloc(8);
  const r = raw.ioctl(fd, BLKGETSIZE64, size);
  if (r < 0) throw new SyscallError("ioctl BLKGETSIZE64", -r, textOfBytes(path));
  return Number(size.readBigUInt64LE(0));
}

/** Gives up all data of a device. False where it cannot be discarded. */
export function discardDevice(path: ByteString): boolean {
  using device = open(path, O_RDWR);
  const range = Buffer.alloc(16);
  range.writeBigUInt64LE(BigInt(blockDeviceSize(device.fd, path)), 8);
  return raw.ioctl(device.fd, BLKDISCARD, range) >= 0;
}
