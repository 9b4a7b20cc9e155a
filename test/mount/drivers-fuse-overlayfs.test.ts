/** The driver fuse-overlay with the program fuse-overlayfs in place of our own, as root and in a user namespace. */
import { test } from "node:test";
import { findProgram } from "../../src/fs/find-program.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const place = placeOf("host");
testFuseOverlay("host with fuse-overlayfs", {
  makeHome: () => directoryIn(place),
  skip: findProgram("fuse-overlayfs") === undefined ? "fuse-overlayfs is not installed" : place.skip,
  mountProgram: findProgram("fuse-overlayfs"),
  // It copies holes as zeros, where it cannot share the data.
  lacks: ["huge files"],
  // Each mount starts a process, and each layer takes it as long again.
  cycles: 50,
  depth: 24,
  runs: 10,
});

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
