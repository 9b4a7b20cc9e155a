/** The driver fuse-overlay with our own union file system in place of fuse-overlayfs, as root and in a user namespace. */
import { test } from "node:test";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const place = placeOf("host");
// Each mount starts Node.js, twice.
const few = { depth: 24, cycles: 10, runs: 3 };

testFuseOverlay("host with lamella-overlay", {
  makeHome: () => directoryIn(place),
  skip: place.skip,
  mountProgram: "lamella-overlay",
  ...few,
});

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
