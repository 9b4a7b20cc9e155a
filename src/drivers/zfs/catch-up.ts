/**
 * Before the zfs-fuse daemon's mounts end. That a file was closed the kernel tells the daemon in the background, and an unmount
 * takes back what it has not read yet. The daemon then waits for good for that file system to fall idle, and answers nobody
 * meanwhile: its thread keeps the lock under which requests are read.
 */
import { readMountInfo } from "../../fs/mountinfo.ts";
import * as raw from "../../sys/raw.ts";

/** The kernel hands out a dozen of what goes in the background at a time. */
const ROUNDS = 3;

/**
 * Lets the daemon read what it was told of a dataset and those below it: a question that is answered has waited for its turn
 * behind that. To be called before anything unmounts one. Where the kernel mounts, there is nothing to do.
 */
export function letDaemonCatchUp(dataset: string): void {
  for (const { type, source, mountPoint } of readMountInfo()) {
    if (type !== "fuse.zfs" || (source !== dataset && !source.startsWith(`${dataset}/`))) continue;
    for (let i = 0; i < ROUNDS; i++) raw.statfs(mountPoint);
  }
}
