/** fuse-overlay on a pool of zfs-fuse, where the kernel's overlay will not have its upper directory. */
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { directoryIn } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { zfsPlace } from "../support/zfs-lab.ts";

const place = zfsPlace();
testFuseOverlay(mounterHere() === "daemon" ? "zfs-fuse" : "zfs", {
  makeHome: () => directoryIn(place),
  skip: place.skip,
  depth: 24,
  cycles: 30,
  runs: 3,
  lacks: ["huge files"],
});
