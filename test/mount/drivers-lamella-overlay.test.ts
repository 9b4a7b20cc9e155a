/** The driver fuse-overlay with our own union file system in place of fuse-overlayfs, as root and in a user namespace. */
import { test } from "node:test";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

// Each mount starts Node.js, twice.
const few = { depth: 24, cycles: 10, runs: 3 };

// On an overlay the kernel takes no upper directory, and no devices can be made that would be whiteouts.
for (const type of inUserNamespace() ? (["host"] as const) : (["host", "overlay"] as const)) {
  const place = placeOf(type);
  testFuseOverlay(`${type} with lamella-overlay`, {
    makeHome: () => directoryIn(place),
    skip: place.skip,
    mountProgram: "lamella-overlay",
    ...few,
  });
}

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
