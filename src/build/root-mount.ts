/**
 * Mounts a layer's root file system in the mount namespace of the calling thread, for a build step.
 *
 * Steps that write mount overlay layers `volatile` where the kernel can (5.10): what is written becomes durable when the
 * layer is published, by one syncfs; without it every unmount would flush the whole file system beneath.
 */

import type { LayerView } from "../drivers/driver.ts";
import { bindView, overlayOptionStrings } from "../drivers/mount-view.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { bindMount } from "../fs/mounts.ts";
import { mountOverlay } from "../fs/overlay-mount.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, MNT_DETACH, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";

export interface RootMountOptions {
  readonly volatile?: boolean;
  /** Directories to put between the writable layer and the others, the uppermost first. Overlay views only. */
  readonly extraLowers?: readonly ByteString[];
}

/** Mounts `view` at the directory `target`. Disposing unmounts it, at once or with its last user. */
export function mountRoot(view: LayerView, target: ByteString, options: RootMountOptions = {}): Disposable {
  if (view.kind === "directory") bindView(view, target);
  else {
    let lowers = [...(options.extraLowers ?? []), ...view.lowers];
    // An overlay without an upper needs two lowers; the same directory twice is refused (ELOOP).
    if (view.upper === undefined && lowers.length === 1) {
      bindMount(lowers[0] ?? "", target, { readOnly: true });
      return { [Symbol.dispose]: () => void raw.umount2(target, MNT_DETACH) };
    }
    lowers = [...lowers];
    const strings = overlayOptionStrings(view.options);
    const overlay = { lowers, upper: view.upper, work: view.work };
    if (options.volatile && view.upper !== undefined) {
      try {
        mountOverlay({ ...overlay, options: [...strings, "volatile"] }, target);
      } catch (error) {
        if (!hasCode(error, "EINVAL")) throw error;
        mountOverlay({ ...overlay, options: strings }, target);
      }
    } else mountOverlay({ ...overlay, options: strings }, target);
  }
  return { [Symbol.dispose]: () => void raw.umount2(target, MNT_DETACH) };
}

/** True when an overlay's writable layer holds nothing; undefined for views of another kind. */
export function isUntouched(view: LayerView): boolean | undefined {
  if (view.kind !== "overlay" || view.upper === undefined) return undefined;
  const fd = raw.openat(AT_FDCWD, view.upper, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return undefined;
  using upper = new sys.OwnedFd(fd);
  return sys.readdir(upper.fd).length === 0;
}
