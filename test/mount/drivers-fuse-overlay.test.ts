/** fuse-overlay: the suite on ext4 and xfs, then in a user namespace; on zfs-fuse in drivers-fuse-overlay-zfs.test.ts. */
import { test } from "node:test";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

for (const type of inUserNamespace() ? (["host"] as const) : (["host", "xfs"] as const)) {
  const place = placeOf(type);
  // fuse-overlayfs copies holes as zeros, where it cannot share the data.
  const lacks = type === "xfs" ? [] : (["huge files"] as const);
  testFuseOverlay(type, { makeHome: () => directoryIn(place), skip: place.skip, lacks });
}

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
