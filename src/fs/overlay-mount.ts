/**
 * Mounts overlays, however many layers and however long their paths.
 *
 * Since Linux 6.8 each layer goes to the kernel in a call of its own: fsopen → fsconfig `lowerdir+` per layer → fsmount →
 * move_mount. A string may have 255 bytes there; a longer path, or one with a backslash, is given as a descriptor (6.13),
 * before that as `/proc/thread-self/fd/N`.
 *
 * Before 6.8, mount(2) takes all layers in one string of at most 4095 bytes (the kernel cuts what is longer, silently). When
 * the paths do not fit, every layer is opened and the working directory of the thread set to `/proc/thread-self/fd`, so that
 * a layer's name is its descriptor's number: 500 layers take 2000 bytes. A worker thread first gets a working directory of
 * its own (unshare CLONE_FS). The main thread does not, since a later `process.chdir` would then miss the threads of libuv;
 * it goes there and back in one synchronous stretch.
 *
 * An error says what the kernel wrote meanwhile: to the context's log what is wrong with an option, to its own log the rest.
 */
import { release } from "node:os";
import { isMainThread } from "node:worker_threads";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import {
  CLONE_FS,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  MNT_DETACH,
  MOUNT_ATTR_RDONLY,
  MS_RDONLY,
  O_DIRECTORY,
  O_PATH,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { KernelLog } from "./kernel-log.ts";
import { attachMount } from "./mounts.ts";

/** Linux takes at most this many lower layers (OVL_MAX_STACK). */
export const MAX_LOWERS = 500;
const LONGEST_STRING = 255;
const LONGEST_DATA = 4095;
const ENOSYS = 38;
const EPERM = 1;

export interface OverlayMount {
  /** Absolute paths of directories, the uppermost first. Without an upper at least two. */
  readonly lowers: readonly ByteString[];
  readonly upper: ByteString | undefined;
  readonly work: ByteString | undefined;
  /** Further options: `index=off`, `userxattr`. */
  readonly options: readonly string[];
}

/** Which way into the kernel to take: `auto`, or one of them for tests. */
export type MountApi = "auto" | "fsconfig" | "mount";

/** True when the running kernel is at least `major.minor`. */
export function kernelAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = release().split(/[.-]/).map(Number);
  return a > major || (a === major && b >= minor);
}

/** Mounts an overlay at the directory `target`. */
export function mountOverlay(overlay: OverlayMount, target: ByteString, api: MountApi = "auto"): void {
  if (api !== "mount") {
    const mount = openOverlay(overlay, api);
    if (mount !== undefined) {
      using owned = mount;
      attachMount(owned.fd, target);
      return;
    }
  }
  mountByData(overlay, target);
}

/**
 * A mounted overlay that is attached nowhere: its files are reached through the descriptor, and it ends with it. Undefined
 * where the kernel has no such thing for these layers (before 5.2; before 6.8 with paths over 255 bytes in all, or with a
 * comma, which fsconfig refuses on behalf of file systems that still take one string).
 */
export function openOverlay(overlay: OverlayMount, api: MountApi = "auto"): sys.OwnedFd | undefined {
  const perLayer = kernelAtLeast(6, 8);
  const joined = overlay.lowers.map(escapeLayer).join(":");
  if (!perLayer && (api === "fsconfig" || joined.length > LONGEST_STRING || hasComma(overlay))) return undefined;
  const fd = raw.fsopen("overlay", FSOPEN_CLOEXEC);
  if (fd === -ENOSYS || (fd === -EPERM && api === "auto")) return undefined;
  if (fd < 0) throw new SyscallError("fsopen overlay", -fd);
  using context = new sys.OwnedFd(fd);
  using log = new KernelLog();
  const held: sys.OwnedFd[] = [];
  try {
    const set = (key: string, value?: ByteString): void => {
      const r = value === undefined ? raw.fsconfigFlag(fd, key) : raw.fsconfigString(fd, key, value);
      if (r < 0) throw refused(`fsconfig ${key}`, -r, overlay, log, fd);
    };
    const setPath = (key: string, path: ByteString): void => {
      if (path.length <= LONGEST_STRING && !path.includes("\\")) {
        set(key, path);
        return;
      }
      const layer = sys.open(path, O_PATH | O_DIRECTORY);
      held.push(layer);
      if (raw.fsconfigFd(fd, key, layer.fd) < 0) set(key, `/proc/thread-self/fd/${layer.fd}`);
    };
    set("source", "overlay");
    for (const option of overlay.options) {
      const equals = option.indexOf("=");
      if (equals < 0) set(option);
      else set(option.slice(0, equals), option.slice(equals + 1));
    }
    if (perLayer) for (const lower of overlay.lowers) setPath("lowerdir+", lower);
    else set("lowerdir", joined);
    if (overlay.upper !== undefined) setPath("upperdir", overlay.upper);
    if (overlay.work !== undefined) setPath("workdir", overlay.work);
    const created = raw.fsconfigCreate(fd);
    if (created < 0) throw refused("mount", -created, overlay, log, fd);
    const mount = raw.fsmount(context.fd, FSMOUNT_CLOEXEC, overlay.upper === undefined ? MOUNT_ATTR_RDONLY : 0);
    if (mount < 0) throw refused("fsmount", -mount, overlay, log, fd);
    return new sys.OwnedFd(mount);
  } finally {
    for (const layer of held) layer[Symbol.dispose]();
  }
}

function hasComma({ lowers, upper, work }: OverlayMount): boolean {
  return [...lowers, upper, work].some((path) => path?.includes(","));
}

function escapeLayer(path: ByteString): ByteString {
  return path.replace(/[\\:,]/g, "\\$&");
}

function dataOf(overlay: OverlayMount, name: (path: ByteString) => ByteString): ByteString {
  const parts = [...overlay.options, `lowerdir=${overlay.lowers.map(name).join(":")}`];
  if (overlay.upper !== undefined) parts.push(`upperdir=${name(overlay.upper)}`);
  if (overlay.work !== undefined) parts.push(`workdir=${name(overlay.work)}`);
  return parts.join(",");
}

function mountByData(overlay: OverlayMount, target: ByteString): void {
  const flags = overlay.upper === undefined ? MS_RDONLY : 0;
  const data = dataOf(overlay, escapeLayer);
  using log = new KernelLog();
  if (data.length <= LONGEST_DATA) {
    const r = raw.mount("overlay", target, "overlay", flags, data);
    if (r < 0) throw refused("mount", -r, overlay, log);
    return;
  }
  ownWorkingDirectory();
  const held: sys.OwnedFd[] = [];
  using before = sys.open(".", O_PATH | O_DIRECTORY);
  try {
    const short = dataOf(overlay, (path) => {
      const layer = sys.open(path, O_PATH | O_DIRECTORY);
      held.push(layer);
      return String(layer.fd);
    });
    if (short.length > LONGEST_DATA)
      throw new LamellaError(
        "resource_exhausted",
        "TOO_MANY_LAYERS",
        `${overlay.lowers.length} layers do not fit a mount`,
      );
    sys.chdir("/proc/thread-self/fd");
    const r = raw.mount("overlay", target, "overlay", flags, short);
    raw.fchdir(before.fd);
    if (r < 0) throw refused("mount", -r, overlay, log);
  } finally {
    for (const layer of held) layer[Symbol.dispose]();
  }
}

let unshared = false;
function ownWorkingDirectory(): void {
  if (isMainThread || unshared) return;
  sys.unshare(CLONE_FS);
  unshared = true;
}

const PRIVILEGED_OPTIONS = "redirect_dir=on and metacopy=on need CAP_SYS_ADMIN in the initial user namespace";

const hintOfErrno: Readonly<Record<string, string>> = {
  EPERM: "mounting needs CAP_SYS_ADMIN: run as root, or in a user and mount namespace of your own (`unshare -r -m`)",
  ELOOP: "a layer directory contains another layer, or overlays are stacked too deep",
  ENODEV: "the kernel has no overlayfs: load the module `overlay`",
  EBUSY: "the upper or work directory belongs to another overlay mount",
  ESTALE: "the upper directory was first used with other lower layers",
  ENOENT: "a layer directory is missing",
  EINVAL: "the kernel's log (`dmesg`) has the reason in a line that begins with `overlayfs:`",
};

function refused(
  call: string,
  errno: number,
  overlay: OverlayMount,
  kernelLog: KernelLog,
  contextFd?: number,
): SyscallError {
  const said = [...(contextFd === undefined ? [] : readLog(contextFd)), ...kernelLog.messages("overlayfs: ")];
  const top = overlay.upper ?? overlay.lowers[0] ?? "";
  const of = `overlay of ${overlay.lowers.length} lower layers at ${textOfBytes(top)}`;
  const plain = new SyscallError(
    call,
    errno,
    said.length === 0 ? of : `${of} (the kernel says: ${[...new Set(said)].join("; ")})`,
  );
  const privilegedOption = overlay.options.some((option) => /^(redirect_dir|metacopy)=on$/.test(option));
  const hint = plain.code === "EPERM" && privilegedOption ? PRIVILEGED_OPTIONS : hintOfErrno[plain.code];
  return hint === undefined ? plain : new SyscallError(call, errno, plain.path, { hint });
}

/** The messages a file system context holds, without their leading class letter. */
function readLog(contextFd: number): string[] {
  const lines: string[] = [];
  const buffer = Buffer.alloc(4096);
  for (let i = 0; i < 32; i++) {
    const n = raw.read(contextFd, buffer);
    if (n <= 0) break;
    lines.push(
      buffer
        .toString("utf8", 0, n)
        .trim()
        .replace(/^[ewi] /, ""),
    );
  }
  return lines;
}

/** Opens the root of a trial overlay for as long as `use` runs; nothing stays mounted. `target`: an empty directory. */
export function withTrialOverlay<T>(overlay: OverlayMount, target: ByteString, use: (rootFd: number) => T): T {
  using root = openTrialOverlay(overlay, target);
  return use(root.fd);
}

/** The root of an overlay that is mounted nowhere and ends with the descriptor. `target`: an empty directory. */
export function openTrialOverlay(overlay: OverlayMount, target: ByteString): sys.OwnedFd {
  const detached = openOverlay(overlay);
  if (detached !== undefined) return detached;
  mountByData(overlay, target);
  try {
    return sys.open(target, O_PATH | O_DIRECTORY);
  } finally {
    // Detached at once: the descriptor keeps the file system alive, and a crash from here on leaves no mount.
    raw.umount2(target, MNT_DETACH);
  }
}
