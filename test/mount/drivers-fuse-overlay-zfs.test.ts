/** fuse-overlay on a pool of zfs-fuse, where the kernel's overlay will not have its upper directory. */
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { sleepSync } from "../../src/fs/mounts.ts";
import { directoryIn } from "../support/file-systems.ts";
import { testFuseOverlay } from "../support/fuse-overlay-suite.ts";
import { zfs, zfsPlace } from "../support/zfs-lab.ts";

const place = zfsPlace();
const isFuse = mounterHere() === "daemon";
testFuseOverlay(isFuse ? "zfs-fuse" : "zfs", {
  makeHome: () => directoryIn(place),
  skip: place.skip,
  flush: () => {
    // What is counted is counted when the pool's next transaction group is written, and the kernel asks again after a second.
    zfs("set", "lamella:flushed=yes", place.pool);
    if (isFuse) sleepSync(1100);
  },
  lacks: ["huge files"],
  acls: !isFuse,
  runs: 10,
});
