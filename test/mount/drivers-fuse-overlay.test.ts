/**
 * fuse-overlay with our own union file system: the suite on ext4, on xfs, and within an overlay, where the kernel takes no upper
 * directory and no devices can be made that would be whiteouts; then in a user namespace. On zfs-fuse in
 * drivers-fuse-overlay-zfs.test.ts, with fuse-overlayfs in drivers-fuse-overlayfs.test.ts.
 */
import { test } from "node:test";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

for (const type of inUserNamespace() ? (["host"] as const) : (["host", "xfs", "overlay"] as const)) {
  const place = placeOf(type);
  const often = type === "overlay" ? { depth: 24, cycles: 50 } : type === "host" ? { cycles: 1000 } : {};
  testFuseOverlay(type, { makeHome: () => directoryIn(place), skip: place.skip, ...often });
}

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
