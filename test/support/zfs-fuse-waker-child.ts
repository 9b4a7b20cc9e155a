/**
 * Keeps zfs-fuse going: `node zfs-fuse-waker-child.ts DIRECTORY`, where a pool is mounted, until it is killed.
 *
 * One thread of the daemon asks all mounts at once which has a request, and reads that one's. When the process whose request it
 * was is killed between the two, the kernel takes the request back, the read waits for the mount's next one, and meanwhile
 * nobody reads those of the others: the tests kill processes on purpose, and stood still. A request to each mount ends that.
 */
import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { readMountInfo } from "../../src/fs/mountinfo.ts";

/** How long the daemon may take for an answer, in milliseconds, before it counts as standing still. */
const PATIENCE_MS = 2000;

const [directory = ""] = process.argv.slice(2);
for (;;) {
  await sleep(500);
  const answer = statfs(directory).catch(() => undefined);
  const isStuck = Symbol();
  if ((await Promise.race([answer, sleep(PATIENCE_MS, isStuck)])) !== isStuck) continue;
  // Each waits in a thread of its own until its turn comes; see UV_THREADPOOL_SIZE where this is started.
  const mounts = readMountInfo().filter(({ type }) => type === "fuse.zfs");
  await Promise.all(mounts.map(({ mountPoint }) => statfs(mountPoint).catch(() => undefined)));
}
