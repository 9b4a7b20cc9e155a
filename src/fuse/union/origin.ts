/**
 * The `origin` attribute: a file handle of what an object was copied up from, by which its inode number stays what it was.
 *
 *     struct ovl_fb   u8 version = 0, magic = 0xfb, length, flags, type; u8 uuid[16] of the file system; u8 handle[]
 *
 * The number is read out of handles whose form is known (ext4 and others of the generic form; tmpfs; xfs; btrfs); other
 * origins are taken for unknown. Source: fs/overlayfs/overlayfs.h, include/linux/exportfs.h.
 */
import * as raw from "../../sys/raw.ts";
import type { InodeNumber } from "./node.ts";

const MAGIC = 0xfb;
const HEADER = 5 + 16;
/** OVL_FH_FLAG_ANY_ENDIAN is not set: the handle is in the order of bytes of this machine, which is little-endian. */
const FLAGS = 0;
/** OVL_FH_FLAG_PATH_UPPER: of an object in the upper layer. */
const UPPER = 4;
const AT_FLAGS = 3;

/** Types of handles that begin with an inode number of 32 bits, and of 64. */
const ino32: readonly number[] = [1, 2];
const ino64: readonly number[] = [0x81, 0x82, 0x4d, 0x4e, 0x4f];
/** A handle of tmpfs: a generation, then an inode number of 64 bits, under the generic type. */
const TMPFS_LENGTH = 12;

/** The inode number that an origin names, undefined where it cannot be told. */
export function originInode(origin: Buffer): InodeNumber | undefined {
  if (origin.length < HEADER + 8 || origin[1] !== MAGIC) return undefined;
  const type = origin[4] as number;
  if (type === 1 && origin.length === HEADER + TMPFS_LENGTH)
    return { inoLow: origin.readUInt32LE(HEADER + 4), inoHigh: origin.readUInt32LE(HEADER + 8) };
  if (ino32.includes(type)) return { inoLow: origin.readUInt32LE(HEADER), inoHigh: 0 };
  if (!ino64.includes(type)) return undefined;
  return { inoLow: origin.readUInt32LE(HEADER), inoHigh: origin.readUInt32LE(HEADER + 4) };
}

/** The value for a copy of an open object (O_PATH will do); empty where its file system has no handles, or no UUID. */
export function originOf(fd: number, uuid: Buffer | number = raw.fileSystemUuid(fd)): Buffer {
  const handle = raw.name_to_handle_at(fd);
  if (typeof handle === "number" || typeof uuid === "number" || uuid.length === 0) return Buffer.alloc(0);
  const head = Buffer.from([0, MAGIC, HEADER + handle.bytes.length, FLAGS, handle.type]);
  return Buffer.concat([head, uuid, handle.bytes]);
}

/** The same handle, said to be of the upper layer. */
export function asUpper(origin: Buffer): Buffer {
  const handle = Buffer.from(origin);
  if (handle.length > AT_FLAGS) handle[AT_FLAGS] = (handle[AT_FLAGS] ?? 0) | UPPER;
  return handle;
}
