/**
 * The device mapper through /dev/mapper/control, without libdm: devices are made, loaded, resumed and removed by ioctls, one
 * each, with no process started and nothing waited for. Needs CAP_SYS_ADMIN. The control node is opened by the first call and
 * stays open. Meant to be imported as `dm`.
 *
 * Nodes: where /dev is a devtmpfs, the kernel itself makes /dev/dm-N. The names below /dev/mapper are made here, as nodes and
 * not as links, when a device comes up, and taken away with it. udev is told to leave these devices alone (the flags in the
 * cookie, see libdm's DM_UDEV_ constants): a rule that opens a device to look for a file system keeps it busy for a moment,
 * and clones of one file system would take turns at /dev/disk/by-uuid.
 *
 * The ioctls are those of linux/dm-ioctl.h, the tables those of the kernel's Documentation/admin-guide/device-mapper.
 */
import { readFileSync } from "node:fs";
import { SyscallError } from "../errors/syscall-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_RDWR, S_IFBLK, S_IFCHR } from "./constants.ts";
import type { DmName, DmReply, DmRequest, DmTarget } from "./dm-ioctl.ts";
import * as codec from "./dm-ioctl.ts";
import * as raw from "./raw.ts";
import { type OwnedFd, open, statIfExists } from "./syscalls.ts";

export type { DmName, DmTarget } from "./dm-ioctl.ts";

const ENOENT = 2;
const ENXIO = 6;
const EBUSY = 16;
const ENODEV = 19;
const EINVAL = 22;
const ENOTTY = 25;

const CONTROL = "/dev/mapper/control";
/** DM_UDEV_DISABLE_ DM_RULES, SUBSYSTEM_RULES, DISK_RULES and OTHER_RULES, in the upper half of a cookie. */
const LEAVE_ALONE = 0x000f0000;

/** A device as DM_DEV_STATUS shows it. */
export interface DmDevice {
  readonly major: number;
  readonly minor: number;
  /** How often it is open: by mounts, by other devices that stand on it, by programs. */
  readonly openCount: number;
  readonly suspended: boolean;
  /** It goes when it is closed. */
  readonly deferredRemove: boolean;
  /** It has a table: something can be read from it. */
  readonly live: boolean;
}

let control: OwnedFd | undefined;

/** Version of the kernel's ioctl interface. */
export function version(): readonly [number, number, number] {
  return call("DM_VERSION", codec.DM_VERSION, {}).version;
}

/** Version of a target type, whose module is loaded if need be; undefined when the kernel has none of that name. */
export function targetVersion(type: string): readonly [number, number, number] | undefined {
  const asked = attempt(codec.DM_GET_TARGET_VERSION, { name: type });
  if (typeof asked !== "number") return codec.decodeVersions(asked.data).get(type);
  // Before Linux 5.5 there is only the list of those loaded by now.
  if (asked !== -ENOTTY) return undefined;
  return codec.decodeVersions(call("DM_LIST_VERSIONS", codec.DM_LIST_VERSIONS, {}).data).get(type);
}

/** All devices of the host. */
export function list(): readonly DmName[] {
  return codec.decodeDevices(call("DM_LIST_DEVICES", codec.DM_LIST_DEVICES, {}).data);
}

/** A device; undefined when there is none of that name. */
export function find(name: ByteString): DmDevice | undefined {
  const reply = attempt(codec.DM_DEV_STATUS, { name });
  if (reply === -ENXIO) return undefined;
  return deviceOf(typeof reply === "number" ? fail("DM_DEV_STATUS", reply, name) : reply);
}

/**
 * Makes a device with a table and brings it up, its node below /dev/mapper included. Nothing is left when that fails.
 * Errors: EBUSY when there is a device of that name; EINVAL, ENXIO and others for a table the kernel does not take.
 */
export function create(name: ByteString, targets: readonly DmTarget[]): DmDevice {
  call("DM_DEV_CREATE", codec.DM_DEV_CREATE, { name });
  try {
    load(name, targets);
    const device = deviceOf(resumed(name));
    makeNode(name, device);
    return device;
  } catch (error) {
    remove(name);
    throw error;
  }
}

/** Gives a device a new table, which counts from the next {@link resume} on. */
export function load(name: ByteString, targets: readonly DmTarget[]): void {
  const data = codec.encodeTargets(targets);
  call("DM_TABLE_LOAD", codec.DM_TABLE_LOAD, { name, targets: targets.length, data });
}

/**
 * Removes a device and its node. `deferred`: a device in use goes when it is closed, its node at once. Answers what became
 * of it.
 */
export function remove(
  name: ByteString,
  options: { readonly deferred?: boolean } = {},
): "removed" | "deferred" | "busy" | "absent" {
  const flags = options.deferred ? codec.DM_DEFERRED_REMOVE : 0;
  const reply = attempt(codec.DM_DEV_REMOVE, { name, flags, cookie: LEAVE_ALONE });
  if (reply === -EBUSY) return "busy";
  if (reply !== -ENXIO && typeof reply === "number") fail("DM_DEV_REMOVE", reply, name);
  raw.unlinkat(AT_FDCWD, nodeOf(name));
  if (typeof reply === "number") return "absent";
  return (reply.flags & codec.DM_DEFERRED_REMOVE) !== 0 ? "deferred" : "removed";
}

/** Takes back a deferred removal. Undefined when the device has gone by now, or is going. */
export function revive(name: ByteString): DmDevice | undefined {
  const r = attempt(codec.DM_TARGET_MSG, { name, data: codec.encodeMessage(0, "@cancel_deferred_remove") });
  if (r === -ENXIO || r === -EBUSY || r === -ENODEV) return undefined;
  if (typeof r === "number") fail("DM_TARGET_MSG @cancel_deferred_remove", r, name);
  const device = find(name);
  if (device !== undefined) makeNode(name, device);
  return device;
}

/** Holds back all that is read and written. A file system on it is frozen first: all it has is written, and it is clean. */
export function suspend(name: ByteString): void {
  call("DM_DEV_SUSPEND", codec.DM_DEV_SUSPEND, { name, flags: codec.DM_SUSPEND_FLAG });
}

/** Lets a device go on, with a new table when one was loaded. */
export function resume(name: ByteString): void {
  resumed(name);
}

/**
 * What the targets of a device tell of themselves. A thin pool writes its metadata down first, which takes a flush of its
 * disk; `noflush`: it does not, and its figures may be a second old.
 */
export function status(name: ByteString, options: { readonly noflush?: boolean } = {}): readonly DmTarget[] {
  const flags = options.noflush ? codec.DM_NOFLUSH_FLAG : 0;
  return codec.decodeTargets(call("DM_TABLE_STATUS", codec.DM_TABLE_STATUS, { name, flags }));
}

/** The table of a device. */
export function table(name: ByteString): readonly DmTarget[] {
  const flags = codec.DM_STATUS_TABLE_FLAG;
  return codec.decodeTargets(call("DM_TABLE_STATUS", codec.DM_TABLE_STATUS, { name, flags }));
}

/** The devices that a device stands on. */
export function dependencies(name: ByteString): readonly { readonly major: number; readonly minor: number }[] {
  return codec.decodeDependencies(call("DM_TABLE_DEPS", codec.DM_TABLE_DEPS, { name }).data);
}

/** Sends a target a message. Errors: the target's own. */
export function message(name: ByteString, text: ByteString): void {
  call(`DM_TARGET_MSG ${text}`, codec.DM_TARGET_MSG, { name, data: codec.encodeMessage(0, text) });
}

function resumed(name: ByteString): DmReply {
  return call("DM_DEV_SUSPEND (resume)", codec.DM_DEV_SUSPEND, { name, cookie: LEAVE_ALONE });
}

function call(what: string, request: number, content: DmRequest): DmReply {
  const reply = attempt(request, content);
  return typeof reply === "number" ? fail(what, reply, content.name) : reply;
}

/** One ioctl, with as much room for its answer as it takes. The answer, or -errno. */
function attempt(request: number, content: DmRequest): DmReply | number {
  if ((content.name?.length ?? 0) > codec.DM_NAME_MAX) return -EINVAL;
  control ??= openControl();
  for (let size = codec.DM_IOCTL_SIZE + (content.data?.length ?? 0) + 4096; ; size *= 4) {
    const bytes = codec.encodeRequest(content, size);
    const r = raw.ioctl(control.fd, request, bytes);
    if (r < 0) return r;
    const reply = codec.decodeReply(bytes);
    if ((reply.flags & codec.DM_BUFFER_FULL_FLAG) === 0) return reply;
  }
}

/** Path of a device's node. */
export function nodeOf(name: ByteString): ByteString {
  return `/dev/mapper/${name}`;
}

function deviceOf({ major, minor, openCount, flags }: DmReply): DmDevice {
  return {
    major,
    minor,
    openCount,
    suspended: (flags & codec.DM_SUSPEND_FLAG) !== 0,
    deferredRemove: (flags & codec.DM_DEFERRED_REMOVE) !== 0,
    live: (flags & codec.DM_ACTIVE_PRESENT_FLAG) !== 0,
  };
}

function fail(what: string, result: number, name?: ByteString): never {
  throw new SyscallError(`ioctl ${what}`, -result, name);
}

/** Makes the node of a device, unless something that names it is there (a node, or a link of udev's). */
function makeNode(name: ByteString, { major, minor }: DmDevice): void {
  const path = nodeOf(name);
  const there = raw.statx(AT_FDCWD, path, 0);
  if (typeof there !== "number" && there.rdevMajor === major && there.rdevMinor === minor) return;
  raw.unlinkat(AT_FDCWD, path);
  const r = raw.mknodat(AT_FDCWD, path, S_IFBLK | 0o600, major, minor);
  if (r < 0) throw new SyscallError("mknodat", -r, path);
}

/** Errors: ENOENT where the kernel has no device mapper, EACCES and EPERM without privileges. */
function openControl(): OwnedFd {
  if (statIfExists(AT_FDCWD, CONTROL) === undefined) makeControlNode();
  return open(CONTROL, O_RDWR);
}

/** Makes the control node where nobody else does: its number is in /proc/misc once the module is there. */
function makeControlNode(): void {
  const minor = /^\s*(\d+) device-mapper$/m.exec(readFileSync("/proc/misc", "latin1"))?.[1];
  if (minor === undefined) throw new SyscallError("openat", ENOENT, CONTROL);
  raw.mkdirat(AT_FDCWD, "/dev/mapper", 0o755);
  const r = raw.mknodat(AT_FDCWD, CONTROL, S_IFCHR | 0o600, 10, Number(minor));
  if (r < 0) throw new SyscallError("mknodat", -r, CONTROL);
}
