/** Which dataset a home's layers are made below. */
import { readMountInfo } from "../../fs/mountinfo.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { nearestDirectory } from "../trial-directory.ts";

/**
 * The dataset that holds the nearest directory at or above `path` that exists: the source of the mount with its device number.
 * Undefined where that is no dataset.
 */
export function datasetOf(path: ByteString): string | undefined {
  const { devMajor, devMinor } = sys.statx(AT_FDCWD, nearestDirectory(path));
  const mount = readMountInfo().find(
    (one) => isZfs(one.type) && one.devMajor === devMajor && one.devMinor === devMinor,
  );
  return mount?.source;
}

/** True for the kernel's type and for that of zfs-fuse. */
function isZfs(type: string): boolean {
  return type === "zfs" || type === "fuse.zfs";
}

/** Dataset names, as `zfs` takes them (zfs(8), zfs_namecheck.c): components of letters, digits and `-_.: `. */
export function isDatasetName(text: string): boolean {
  return /^[A-Za-z0-9][\w.: -]*(?:\/[\w.: -]+)*$/.test(text);
}
