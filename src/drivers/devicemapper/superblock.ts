/** Which file system is on a device, by its superblock: of ext4 (Documentation/filesystems/ext4/super.rst) and xfs. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { FileSystem } from "./options.ts";

export interface Superblock {
  readonly fileSystem: FileSystem;
  /** As `blkid` prints it. */
  readonly uuid: string;
  readonly blockBytes: number;
  /** Of xfs: the share of the space that inodes may take. */
  readonly inodePercent: number;
  /** Inodes in use, as of the last time it was unmounted. */
  readonly usedInodes: number;
}

const LENGTH = 4096;
const EXT4 = 1024;

/** Undefined for anything else. `bytes`: the first 4 KiB of the device. */
export function parseSuperblock(bytes: Buffer): Superblock | undefined {
  if (bytes.length < LENGTH) return undefined;
  if (bytes.toString("latin1", 0, 4) === "XFSB")
    return {
      fileSystem: "xfs",
      uuid: formatUuid(bytes.subarray(32, 48)),
      blockBytes: bytes.readUInt32BE(4),
      inodePercent: bytes.readUInt8(127),
      usedInodes: Number(bytes.readBigUInt64BE(128) - bytes.readBigUInt64BE(136)),
    };
  if (bytes.readUInt16LE(EXT4 + 0x38) === 0xef53)
    return {
      fileSystem: "ext4",
      uuid: formatUuid(bytes.subarray(EXT4 + 0x68, EXT4 + 0x78)),
      blockBytes: 1024 << bytes.readUInt32LE(EXT4 + 0x18),
      inodePercent: 0,
      usedInodes: bytes.readUInt32LE(EXT4) - bytes.readUInt32LE(EXT4 + 0x10),
    };
  return undefined;
}

/** Errors: failed_precondition for a device without ext4 or xfs. */
export function readSuperblock(device: ByteString): Superblock {
  using file = sys.open(device, O_RDONLY);
  const bytes = Buffer.alloc(LENGTH);
  sys.pread64(file.fd, bytes, bytes.length, 0);
  const superblock = parseSuperblock(bytes);
  if (superblock !== undefined) return superblock;
  throw new LamellaError(
    "failed_precondition",
    "NO_FILE_SYSTEM",
    `devmapper: Unknown filesystem type on ${textOfBytes(device)}`,
  );
}

function formatUuid(bytes: Buffer): string {
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
