/** fuse-overlay: the suite on ext4 and xfs, and what is special to it. */
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";

for (const type of inUserNamespace() ? (["host"] as const) : (["host", "xfs"] as const)) {
  const place = placeOf(type);
  // fuse-overlayfs copies holes as zeros, where it cannot share the data.
  const lacks = type === "xfs" ? [] : (["huge files"] as const);
  testFuseOverlay(type, { makeHome: () => directoryIn(place), skip: place.skip, lacks });
}
