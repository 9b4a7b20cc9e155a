/**
 * Bind mounts, mount points and unmounting. Everything is synchronous, acts in the mount namespace of the calling thread and
 * follows no symbolic link at the target.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  MNT_DETACH,
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_STRICTATIME,
  MOVE_MOUNT_F_EMPTY_PATH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  UMOUNT_NOFOLLOW,
} from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { parentPath } from "./durable-file.ts";
import { type MountInfo, readMountInfo } from "./mountinfo.ts";

const EBUSY = 16;
const EINVAL = 22;
const ENOENT = 2;
const ENOSYS = 38;

/** Blocks the thread. */
export function sleepSync(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/**
 * Shows the directory (or file) `source` at `target` too. Where the kernel can (5.12), a read-only bind comes into being
 * read-only; before, it is writable for the instant between two calls.
 */
export function bindMount(source: ByteString, target: ByteString, options: { readonly readOnly?: boolean } = {}): void {
  if (!hasOpenTree()) {
    sys.mount(source, target, "", MS_BIND, "");
    if (options.readOnly) remountReadOnly(target);
    return;
  }
  using clone = detachedBind(source, options);
  attachMount(clone.fd, target, options);
}

/** False on kernels before 5.2, and where a filter forbids it. */
const hasOpenTree = once(() => raw.open_tree(-1, "", OPEN_TREE_CLOEXEC) !== -ENOSYS);
/** False on kernels before 5.12. */
const hasMountSetattr = once(() => raw.mount_setattr(-1, "", 0, { set: 0, clear: 0, propagation: 0 }) !== -ENOSYS);

function once(ask: () => boolean): () => boolean {
  let answer: boolean | undefined;
  return () => {
    answer ??= ask();
    return answer;
  };
}

/** When reading sets access times; "relatime" where nothing is said. */
export interface AccessTimes {
  readonly files: "relatime" | "noatime" | "strictatime";
  readonly directories: boolean;
}

function accessTimeBits({ files, directories }: AccessTimes): number {
  const bits = { relatime: 0, noatime: MOUNT_ATTR_NOATIME, strictatime: MOUNT_ATTR_STRICTATIME }[files];
  return bits | (directories ? 0 : MOUNT_ATTR_NODIRATIME);
}

/**
 * A detached bind mount of the directory `source`: attached nowhere, it can be handed to a thread in another mount namespace
 * and ends with its descriptor. Read-only, and with access times of its own, only where the kernel can (5.12);
 * {@link attachMount} sees to the rest.
 */
export function detachedBind(
  source: ByteString,
  options: { readonly readOnly?: boolean; readonly accessTimes?: AccessTimes } = {},
): sys.OwnedFd {
  const tree = raw.open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) throw new SyscallError("open_tree", -tree, textOfBytes(source));
  const clone = new sys.OwnedFd(tree);
  const { readOnly, accessTimes } = options;
  if ((!readOnly && accessTimes === undefined) || !hasMountSetattr()) return clone;
  const attr = {
    set: (readOnly ? MOUNT_ATTR_RDONLY : 0) | (accessTimes === undefined ? 0 : accessTimeBits(accessTimes)),
    clear: accessTimes === undefined ? 0 : MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME,
    propagation: 0,
  };
  const r = raw.mount_setattr(clone.fd, "", AT_EMPTY_PATH, attr);
  if (r >= 0) return clone;
  clone[Symbol.dispose]();
  throw new SyscallError("mount_setattr", -r, textOfBytes(source));
}

/** Attaches a detached mount (of fsmount or open_tree) at the directory `target`. */
export function attachMount(mountFd: number, target: ByteString, options: { readonly readOnly?: boolean } = {}): void {
  const r = raw.move_mount(mountFd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  if (r < 0) throw new SyscallError("move_mount", -r, textOfBytes(target));
  if (options.readOnly && !hasMountSetattr()) remountReadOnly(target);
}

/** Makes the mount at `target` (not its file system) read-only. Flags a user namespace has locked are kept. */
export function remountReadOnly(target: ByteString): void {
  const options = mountAt(target)?.options ?? [];
  const kept =
    (options.includes("nosuid") ? MS_NOSUID : 0) |
    (options.includes("nodev") ? MS_NODEV : 0) |
    (options.includes("noexec") ? MS_NOEXEC : 0);
  sys.mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept, "");
}

/** True when something is mounted exactly at `path`. False for what does not exist. */
export function isMountPoint(path: ByteString): boolean {
  const own = raw.statxMountId(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
  if (own === -ENOENT) return false;
  const above = raw.statxMountId(AT_FDCWD, parentPath(path), 0);
  if (own !== undefined && own >= 0 && above !== undefined && above >= 0) return own !== above;
  return mountAt(path) !== undefined;
}

/** What is mounted at `path`, the uppermost of several; undefined when nothing is. */
export function mountAt(path: ByteString): MountInfo | undefined {
  return readMountInfo().findLast((mount) => mount.mountPoint === path);
}

/**
 * Unmounts what is on top at `target`. A busy mount is tried again for a while (a process that just ended may still hold a
 * file), then detached: it disappears from `target` at once and from the kernel with its last user.
 * Answers `absent` when nothing is mounted there.
 */
export function umount(
  target: ByteString,
  options: { readonly triesWhileBusy?: number } = {},
): "unmounted" | "detached" | "absent" {
  const tries = options.triesWhileBusy ?? 5;
  for (let i = 0; ; i++) {
    const r = raw.umount2(target, UMOUNT_NOFOLLOW);
    if (r >= 0) return "unmounted";
    if (r === -EINVAL || r === -ENOENT) return "absent";
    if (r !== -EBUSY) throw new SyscallError("umount2", -r, textOfBytes(target));
    if (i + 1 >= tries) break;
    sleepSync(5 * (i + 1));
  }
  const r = raw.umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH);
  if (r < 0 && r !== -EINVAL) throw new SyscallError("umount2", -r, textOfBytes(target));
  return "detached";
}
