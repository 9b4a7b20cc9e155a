/**
 * btrfs's own calls on subvolumes (linux/btrfs.h, linux/btrfs_tree.h). Structures as the kernel lays them out, little-endian
 * on every machine this runs on:
 *
 *     vol_args         s64 fd | char name[4088]                                                          4096 bytes
 *     vol_args_v2      s64 fd | u64 transid | u64 flags | 32 bytes | char name[4040]                     4096 bytes
 *     subvol_info      u64 treeid | char name[256] | u64 parent_id | u64 dirid | u64 generation | u64 flags |
 *                      u8 uuid[16] | u8 parent_uuid[16] | u8 received_uuid[16] | u64 ctransid | u64 otransid | …   504
 *     subvol_rootref   u64 min_treeid | 255 × { u64 treeid | u64 dirid } | u8 num_items | 7 bytes        4096 bytes
 *     ino_lookup_user  u64 dirid | u64 treeid | char name[256] | char path[3824]                         4096 bytes
 *     send_args        s64 send_fd | u64 count | u64 *clone_sources | u64 parent_root | u64 flags | u32 version | …   72
 *     space_args       u64 slots | u64 total | slots × { u64 flags | u64 total_bytes | u64 used_bytes }
 *
 * Calls that commit a transaction, and so wait for the disk, run on one of libuv's threads. All throw SyscallError. What a
 * call needs of the kernel beyond Linux 4.4, or of privileges, stands with it.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as raw from "./raw.ts";

const BTRFS_IOC_SUBVOL_CREATE = 0x5000940e;
const BTRFS_IOC_SNAP_DESTROY = 0x5000940f;
const BTRFS_IOC_SPACE_INFO = 0xc0109414;
const BTRFS_IOC_SNAP_CREATE_V2 = 0x50009417;
const BTRFS_IOC_SUBVOL_GETFLAGS = 0x80089419;
const BTRFS_IOC_SUBVOL_SETFLAGS = 0x4008941a;
const BTRFS_IOC_SEND = 0x40489426;
const BTRFS_IOC_GET_SUBVOL_INFO = 0x81f8943c;
const BTRFS_IOC_GET_SUBVOL_ROOTREF = 0xd000943d;
const BTRFS_IOC_INO_LOOKUP_USER = 0xd000943e;

const BTRFS_SUBVOL_RDONLY = 2n;
const BTRFS_SEND_FLAG_NO_FILE_DATA = 1n;

export const BTRFS_SUPER_MAGIC = 0x9123683e;
/** Inode number of a subvolume's root directory. */
export const BTRFS_FIRST_FREE_OBJECTID = 256;

const EOVERFLOW = 75;

function check(call: string, result: number, path?: ByteString): number {
  if (result >= 0) return result;
  throw new SyscallError(`ioctl ${call}`, -result, path === undefined ? undefined : textOfBytes(path));
}

function nameIn(args: Buffer, offset: number, name: ByteString): Buffer {
  args.write(name, offset, "latin1");
  return args;
}

/** Makes an empty subvolume `name` in the open directory. Its root gets the mode 0777 less the umask. */
export async function createSubvolume(dirfd: number, name: ByteString): Promise<void> {
  const args = nameIn(Buffer.alloc(4096), 8, name);
  check("BTRFS_IOC_SUBVOL_CREATE", await raw.ioctlInThread(dirfd, BTRFS_IOC_SUBVOL_CREATE, args), name);
}

/** Makes a snapshot `name` in the open directory of the subvolume whose root `sourceFd` is. Nested subvolumes become empty directories. */
export async function createSnapshot(
  dirfd: number,
  name: ByteString,
  source: { readonly fd: number; readonly readOnly: boolean },
): Promise<void> {
  const args = nameIn(Buffer.alloc(4096), 56, name);
  args.writeBigInt64LE(BigInt(source.fd), 0);
  args.writeBigUInt64LE(source.readOnly ? BTRFS_SUBVOL_RDONLY : 0n, 16);
  check("BTRFS_IOC_SNAP_CREATE_V2", await raw.ioctlInThread(dirfd, BTRFS_IOC_SNAP_CREATE_V2, args), name);
}

/**
 * Destroys the subvolume `name` of the open directory; the kernel frees its space later. Errors: EPERM without CAP_SYS_ADMIN
 * where the file system is not mounted with user_subvol_rm_allowed, and while it is being sent; ENOTEMPTY when there are
 * subvolumes in it; EROFS for a read-only one without CAP_SYS_ADMIN.
 */
export async function destroySubvolume(dirfd: number, name: ByteString): Promise<void> {
  const args = nameIn(Buffer.alloc(4096), 8, name);
  check("BTRFS_IOC_SNAP_DESTROY", await raw.ioctlInThread(dirfd, BTRFS_IOC_SNAP_DESTROY, args), name);
}

/** True when the subvolume that holds the open object is read-only. */
export function isReadOnlySubvolume(fd: number): boolean {
  const flags = Buffer.alloc(8);
  check("BTRFS_IOC_SUBVOL_GETFLAGS", raw.ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, flags));
  return (flags.readBigUInt64LE() & BTRFS_SUBVOL_RDONLY) !== 0n;
}

/** Makes the subvolume whose root is open read-only or writable. Errors: EPERM for one that is not the caller's, or is being sent. */
export async function setSubvolumeReadOnly(fd: number, readOnly: boolean): Promise<void> {
  const flags = Buffer.alloc(8);
  flags.writeBigUInt64LE(readOnly ? BTRFS_SUBVOL_RDONLY : 0n);
  check("BTRFS_IOC_SUBVOL_SETFLAGS", await raw.ioctlInThread(fd, BTRFS_IOC_SUBVOL_SETFLAGS, flags));
}

export interface SubvolumeInfo {
  /** Number of its tree. */
  readonly id: number;
  /** Hexadecimal. */
  readonly uuid: string;
  /** Of the subvolume it is a snapshot of; all zeros when it is none. */
  readonly parentUuid: string;
  /** Transaction it was made in: what belongs to a later one was written to it since. */
  readonly madeIn: number;
}

/** What there is to know of the subvolume that holds the open object (Linux 4.18). */
export function subvolumeInfo(fd: number): SubvolumeInfo {
  const info = Buffer.alloc(504);
  check("BTRFS_IOC_GET_SUBVOL_INFO", raw.ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, info));
  return {
    id: Number(info.readBigUInt64LE(0)),
    uuid: info.toString("hex", 296, 312),
    parentUuid: info.toString("hex", 312, 328),
    madeIn: Number(info.readBigUInt64LE(352)),
  };
}

/**
 * Paths, relative to its root, of subvolumes right below the one whose root is open: all of them, or the first 255
 * (Linux 4.18).
 */
export function subvolumesIn(fd: number): ByteString[] {
  const refs = Buffer.alloc(4096);
  const r = raw.ioctl(fd, BTRFS_IOC_GET_SUBVOL_ROOTREF, refs);
  if (r !== -EOVERFLOW) check("BTRFS_IOC_GET_SUBVOL_ROOTREF", r);
  return Array.from({ length: refs[4088] ?? 0 }, (_, i) => {
    const args = Buffer.alloc(4096);
    refs.copy(args, 8, 8 + i * 16, 16 + i * 16);
    refs.copy(args, 0, 16 + i * 16, 24 + i * 16);
    check("BTRFS_IOC_INO_LOOKUP_USER", raw.ioctl(fd, BTRFS_IOC_INO_LOOKUP_USER, args));
    return `${textAt(args, 272)}${textAt(args, 16)}`;
  });
}

function textAt(bytes: Buffer, offset: number): ByteString {
  return bytes.toString("latin1", offset, bytes.indexOf(0, offset));
}

/**
 * Writes what tells the read-only subvolume whose root is open from the read-only subvolume with the tree `parentId`, as a
 * send stream of version 1 without file contents, to a file that is open for writing. 0, or -errno; EPERM without
 * CAP_SYS_ADMIN in the initial user namespace. Synchronous.
 */
export function sendWithoutData(fd: number, parentId: number, toFd: number): number {
  const args = Buffer.alloc(72);
  args.writeBigInt64LE(BigInt(toFd), 0);
  args.writeBigUInt64LE(BigInt(parentId), 24);
  args.writeBigUInt64LE(BTRFS_SEND_FLAG_NO_FILE_DATA, 32);
  return raw.ioctl(fd, BTRFS_IOC_SEND, args);
}

/** Space set aside for one kind of block, and what of it is used. */
export interface SpaceInfo {
  readonly kind: "data" | "metadata" | "system" | "mixed";
  readonly totalBytes: number;
  readonly usedBytes: number;
}

/** How the file system's space is used. */
export function spaceInfo(fd: number): SpaceInfo[] {
  const slots = 32;
  const args = Buffer.alloc(16 + slots * 24);
  args.writeBigUInt64LE(BigInt(slots), 0);
  check("BTRFS_IOC_SPACE_INFO", raw.ioctl(fd, BTRFS_IOC_SPACE_INFO, args));
  const count = Math.min(slots, Number(args.readBigUInt64LE(8)));
  return Array.from({ length: count }, (_, i) => {
    const at = 16 + i * 24;
    return {
      kind: kindOfSpace(args.readUInt32LE(at) & 7),
      totalBytes: Number(args.readBigUInt64LE(at + 8)),
      usedBytes: Number(args.readBigUInt64LE(at + 16)),
    };
  });
}

/** `flags`: BTRFS_BLOCK_GROUP_DATA 1, SYSTEM 2, METADATA 4. The global reserve counts as metadata, which it is part of. */
function kindOfSpace(flags: number): SpaceInfo["kind"] {
  if (flags === 5) return "mixed";
  return flags === 1 ? "data" : flags === 2 ? "system" : "metadata";
}
