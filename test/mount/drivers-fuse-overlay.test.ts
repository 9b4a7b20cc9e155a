/** fuse-overlay: the suite on ext4 and xfs and in a user namespace, and what is special to it. */
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";

for (const type of inUserNamespace() ? (["host"] as const) : (["host", "xfs"] as const)) {
  const place = placeOf(type);
  testFuseOverlay(type, { makeHome: () => directoryIn(place), skip: place.skip });
}
