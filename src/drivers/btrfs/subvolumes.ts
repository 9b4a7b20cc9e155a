/**
 * Subvolumes with others in them, which programs in containers make: removed with all of them, or turned into what a layer can
 * hold.
 */
import { randomBytes } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { hasCode } from "../../errors/syscall-error.ts";
import { copyTreeInBackground, removeTreeInBackground } from "../../fs/tree-jobs.ts";
import { openBeneath } from "../../fs/walk-share.ts";
import type { ByteString } from "../../lib/bytes.ts";
import {
  destroySubvolume,
  isReadOnlySubvolume,
  setSubvolumeReadOnly,
  subvolumeInfo,
  subvolumesIn,
} from "../../sys/btrfs.ts";
import { removeQuotaGroup } from "../../sys/btrfs-quota.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";

const ENOENT = 2;
/** A subvolume that is being sent cannot be removed; nobody waits longer for the end of it. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 50;

/**
 * Removes the subvolume `name` of the open directory, and all subvolumes in it; it need not be there. The kernel frees the
 * space later. Where the caller may not destroy subvolumes, it is emptied and removed like a directory (Linux 4.18). Answers
 * false when it is being sent, and cannot be removed yet.
 */
export async function removeSubvolume(dirfd: number, name: ByteString): Promise<boolean> {
  const fd = raw.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd === -ENOENT) return true;
  using root = new sys.OwnedFd(fd < 0 ? sys.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) : fd);
  for (let inside = subvolumesIn(root.fd); inside.length > 0; inside = subvolumesIn(root.fd)) {
    await makeWritable(root.fd);
    for (const path of inside) {
      using holder = holderOf(root.fd, path);
      if (!(await removeSubvolume(holder.fd, holder.name))) return false;
    }
  }
  // Before the kernel did it by itself, a group stayed behind its subvolume for ever.
  removeQuotaGroup(dirfd, subvolumeInfo(root.fd).id);
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      await destroySubvolume(dirfd, name);
      return true;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return true;
      if (!hasCode(error, "EPERM", "EROFS", "EACCES")) throw error;
    }
    // EPERM is said of what is being sent, too, and then of this as well.
    if (await makeWritable(root.fd)) break;
    if (performance.now() > until) return false;
    await setTimeout(PAUSE_MS);
  }
  await removeTreeInBackground(`/proc/self/fd/${dirfd}/${name}`);
  return true;
}

async function makeWritable(fd: number): Promise<boolean> {
  try {
    if (isReadOnlySubvolume(fd)) await setSubvolumeReadOnly(fd, false);
    return true;
  } catch (error) {
    if (hasCode(error, "EPERM")) return false;
    throw error;
  }
}

/**
 * Makes directories of all subvolumes below the root of an open one, with the same content (shared, not copied): a snapshot
 * would have an empty directory in the place of each.
 */
export async function absorbSubvolumes(rootFd: number): Promise<void> {
  for (let inside = subvolumesIn(rootFd); inside.length > 0; inside = subvolumesIn(rootFd)) {
    for (const path of inside) {
      using holder = holderOf(rootFd, path);
      const times = sys.fstat(holder.fd);
      {
        using nested = new sys.OwnedFd(openBeneath(holder.fd, holder.name));
        await absorbSubvolumes(nested.fd);
      }
      const copy = `.${randomBytes(8).toString("hex")}`;
      const place = `/proc/self/fd/${holder.fd}`;
      await copyTreeInBackground(`${place}/${holder.name}`, `${place}/${copy}`);
      await removeSubvolume(holder.fd, holder.name);
      sys.renameat2(holder.fd, copy, holder.fd, holder.name);
      sys.utimensat(holder.fd, "", times);
    }
  }
}

/** The directory that holds a path below an open one. */
function holderOf(rootFd: number, path: ByteString): Disposable & { readonly fd: number; readonly name: ByteString } {
  const cut = path.lastIndexOf("/");
  const fd = openBeneath(rootFd, path.slice(0, Math.max(0, cut)));
  return { fd, name: path.slice(cut + 1), [Symbol.dispose]: () => void raw.close(fd) };
}
