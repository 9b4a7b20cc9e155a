/**
 * The device mapper's ioctl structures (linux/dm-ioctl.h), as bytes. Pure: ./device-mapper.ts makes the calls.
 *
 *     struct dm_ioctl, 312 bytes, which every call passes in and gets back:
 *        0  u32 version[3]     20  u32 target_count     40  u64 dev
 *       12  u32 data_size      24  s32 open_count       48  char name[128]
 *       16  u32 data_start     28  u32 flags           176  char uuid[129]
 *                              32  u32 event_nr        305  padding
 *     then the call's own data, from data_start: target specs, a message, a list of devices ...
 *
 * Numbers are little-endian: the architectures Lamella runs on are.
 */
import type { ByteString } from "../lib/bytes.ts";

/** Size of struct dm_ioctl, and where data begins. */
export const DM_IOCTL_SIZE = 312;
/** The longest name, without its NUL. */
export const DM_NAME_MAX = 127;

// _IOWR(0xfd, number, struct dm_ioctl)
const request = (number: number): number => 0xc138fd00 + number;
export const DM_VERSION = request(0);
export const DM_LIST_DEVICES = request(2);
export const DM_DEV_CREATE = request(3);
export const DM_DEV_REMOVE = request(4);
export const DM_DEV_SUSPEND = request(6);
export const DM_DEV_STATUS = request(7);
export const DM_TABLE_LOAD = request(9);
export const DM_TABLE_DEPS = request(11);
export const DM_TABLE_STATUS = request(12);
export const DM_LIST_VERSIONS = request(13);
export const DM_TARGET_MSG = request(14);
export const DM_GET_TARGET_VERSION = request(17);

export const DM_SUSPEND_FLAG = 1 << 1;
export const DM_STATUS_TABLE_FLAG = 1 << 4;
export const DM_ACTIVE_PRESENT_FLAG = 1 << 5;
export const DM_BUFFER_FULL_FLAG = 1 << 8;
export const DM_NOFLUSH_FLAG = 1 << 11;
export const DM_DEFERRED_REMOVE = 1 << 17;

/** What is put into struct dm_ioctl. */
export interface DmRequest {
  readonly name?: ByteString;
  readonly flags?: number;
  /** Number of target specs in the data. */
  readonly targets?: number;
  /** What the uevents of suspend, resume and remove carry as DM_COOKIE. */
  readonly cookie?: number;
  readonly data?: Uint8Array;
}

/** A structure of `size` bytes, room for the answer included. The name has been checked for its length. */
export function encodeRequest(
  { name = "", flags = 0, targets = 0, cookie = 0, data }: DmRequest,
  size: number,
): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUInt32LE(4, 0);
  bytes.writeUInt32LE(size, 12);
  bytes.writeUInt32LE(DM_IOCTL_SIZE, 16);
  bytes.writeUInt32LE(targets, 20);
  bytes.writeUInt32LE(flags >>> 0, 28);
  bytes.writeUInt32LE(cookie >>> 0, 32);
  bytes.write(name, 48, "latin1");
  if (data !== undefined) bytes.set(data, DM_IOCTL_SIZE);
  return bytes;
}

/** What the kernel put into struct dm_ioctl. */
export interface DmReply {
  readonly version: readonly [number, number, number];
  readonly targets: number;
  readonly openCount: number;
  readonly flags: number;
  readonly major: number;
  readonly minor: number;
  readonly name: ByteString;
  readonly data: Buffer;
}

export function decodeReply(bytes: Buffer): DmReply {
  const start = bytes.readUInt32LE(16);
  const size = Math.min(bytes.readUInt32LE(12), bytes.length);
  return {
    version: [bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8)],
    targets: bytes.readUInt32LE(20),
    openCount: bytes.readInt32LE(24),
    flags: bytes.readUInt32LE(28),
    ...decodeDevice(bytes, 40),
    name: textAt(bytes, 48, 176),
    data: start > 0 && start <= size ? bytes.subarray(start, size) : Buffer.alloc(0),
  };
}

/** A device number as the kernel's huge_encode_dev has it. */
export function decodeDevice(bytes: Buffer, at: number): { readonly major: number; readonly minor: number } {
  const low = bytes.readUInt32LE(at);
  return { major: (low >>> 8) & 0xfff, minor: (low & 0xff) | ((low >>> 12) & 0xfff00) };
}

/** One line of a table: what a range of 512-byte sectors of a device is mapped to. */
export interface DmTarget {
  readonly start: number;
  readonly length: number;
  readonly type: string;
  readonly parameters: ByteString;
}

const SPEC_SIZE = 40;

/** Tables as DM_TABLE_LOAD takes them: `next` counts from the beginning of each struct dm_target_spec. */
export function encodeTargets(targets: readonly DmTarget[]): Buffer {
  return Buffer.concat(
    targets.map(({ start, length, type, parameters }) => {
      const size = Math.ceil((SPEC_SIZE + parameters.length + 1) / 8) * 8;
      const spec = Buffer.alloc(size);
      spec.writeBigUInt64LE(BigInt(start), 0);
      spec.writeBigUInt64LE(BigInt(length), 8);
      spec.writeUInt32LE(size, 20);
      spec.write(type, 24, 15, "latin1");
      spec.write(parameters, SPEC_SIZE, "latin1");
      return spec;
    }),
  );
}

/** Tables and their status as DM_TABLE_STATUS answers: `next` counts from the beginning of the data. */
export function decodeTargets({ data, targets }: Pick<DmReply, "data" | "targets">): DmTarget[] {
  const found: DmTarget[] = [];
  for (let i = 0, at = 0; i < targets && at + SPEC_SIZE <= data.length; i++) {
    found.push({
      start: Number(data.readBigUInt64LE(at)),
      length: Number(data.readBigUInt64LE(at + 8)),
      type: textAt(data, at + 24, at + SPEC_SIZE),
      parameters: textAt(data, at + SPEC_SIZE, data.length),
    });
    at = data.readUInt32LE(at + 20);
  }
  return found;
}

/** struct dm_target_msg. */
export function encodeMessage(sector: number, text: ByteString): Buffer {
  const bytes = Buffer.alloc(8 + text.length + 1);
  bytes.writeBigUInt64LE(BigInt(sector), 0);
  bytes.write(text, 8, "latin1");
  return bytes;
}

/** A device's name and number. */
export interface DmName {
  readonly name: ByteString;
  readonly major: number;
  readonly minor: number;
}

/** Devices of DM_LIST_DEVICES: a chain of struct dm_name_list, ended by `next` 0. No device at all is a first `dev` 0. */
export function decodeDevices(data: Buffer): DmName[] {
  const devices: DmName[] = [];
  for (let at = 0; at + 12 < data.length; ) {
    const name = textAt(data, at + 12, data.length);
    if (name === "" && data.readBigUInt64LE(at) === 0n) break;
    devices.push({ name, ...decodeDevice(data, at) });
    const next = data.readUInt32LE(at + 8);
    if (next === 0) break;
    at += next;
  }
  return devices;
}

/** Target types and their versions, of DM_LIST_VERSIONS: a chain of struct dm_target_versions. */
export function decodeVersions(data: Buffer): Map<string, readonly [number, number, number]> {
  const versions = new Map<string, readonly [number, number, number]>();
  for (let at = 0; at + 16 < data.length; ) {
    const name = textAt(data, at + 16, data.length);
    if (name === "") break;
    versions.set(name, [data.readUInt32LE(at + 4), data.readUInt32LE(at + 8), data.readUInt32LE(at + 12)]);
    const next = data.readUInt32LE(at);
    if (next === 0) break;
    at += next;
  }
  return versions;
}

/** Devices of DM_TABLE_DEPS: struct dm_target_deps. */
export function decodeDependencies(data: Buffer): { readonly major: number; readonly minor: number }[] {
  if (data.length < 8) return [];
  const count = Math.min(data.readUInt32LE(0), Math.floor((data.length - 8) / 8));
  return Array.from({ length: count }, (_, i) => decodeDevice(data, 8 + 8 * i));
}

/** The text from `at` to its NUL. */
export function textAt(bytes: Buffer, at: number, end: number): ByteString {
  const nul = bytes.indexOf(0, at);
  return bytes.toString("latin1", at, nul < 0 || nul > end ? end : nul);
}
