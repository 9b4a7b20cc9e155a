/** Mounts of layers at mount points of the driver's own, each shared by all who use it (./layer-uses.ts counts them). */
import { makeDirectory } from "../fs/durable-file.ts";
import { readMountInfo } from "../fs/mountinfo.ts";
import { isMountPoint, mountAt, umount } from "../fs/mounts.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, AT_REMOVEDIR } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { mountedElsewhere, mountedInOtherMode } from "./layer-errors.ts";
import type { LayerUse, LayerUses } from "./layer-uses.ts";

export interface MountRequest {
  /** The mount point; made when it is not there. */
  readonly target: ByteString;
  /** The mode a mount that others use must have. Undefined: any will do. */
  readonly readOnly?: boolean;
  /** The mount outlasts every use; see Driver.mount. */
  readonly keep?: boolean | undefined;
  /** It may be mounted in one mount namespace at a time. */
  readonly exclusive?: boolean;
  /** A mount that nobody uses is taken as it is. */
  readonly reuse?: boolean;
  /** Mounts. Synchronous, and not called where it is mounted already. */
  readonly attach: () => void;
}

/** Begins a use of the mount at `target`, mounting it when nobody has. `key` names the layer in errors and lock files. */
export function joinMount(uses: LayerUses, key: string, request: MountRequest): LayerUse {
  const { target, readOnly, keep } = request;
  return uses.begin(
    key,
    ({ here, elsewhere, kept }) => {
      if (request.exclusive && elsewhere) throw mountedElsewhere(key);
      if (isMountPoint(target)) {
        if (here || kept) {
          if (readOnly === undefined) return;
          const mounted = mountAt(target)?.options.includes("ro") ?? false;
          if (mounted !== readOnly) throw mountedInOtherMode(key, mounted);
          return;
        }
        if (request.reuse) return;
        while (umount(target) === "unmounted");
      }
      makeDirectory(target, 0o700);
      try {
        request.attach();
      } catch (error) {
        raw.unlinkat(AT_FDCWD, target, AT_REMOVEDIR);
        throw error;
      }
    },
    keep === undefined ? {} : { keep },
  );
}

/** True when somebody uses the mount at `target`, in whatever mount namespace, or it is kept in this one. */
export function isInUse(uses: LayerUses, key: string, target: ByteString): boolean {
  return uses.isHeld(key) || (uses.inUse(key) && isMountPoint(target));
}

/** Unmounts all there is at `target` and removes the mount point; true when something was mounted. */
export function unmountAt(target: ByteString): boolean {
  let any = false;
  while (umount(target) !== "absent") any = true;
  // The rmdir also ends copies of the mount that leaked into other mount namespaces.
  raw.unlinkat(AT_FDCWD, target, AT_REMOVEDIR);
  return any;
}

/** The keys of mounts below a folder that have been left behind: mounted, but used by nobody. */
export function leftMounts(
  uses: LayerUses,
  prefix: ByteString,
  keyOf: (rest: ByteString) => string | undefined,
): string[] {
  const keys = new Set<string>();
  for (const { mountPoint } of readMountInfo()) {
    const key = mountPoint.startsWith(prefix) ? keyOf(mountPoint.slice(prefix.length)) : undefined;
    if (key !== undefined && !uses.inUse(key)) keys.add(key);
  }
  return [...keys];
}
