/**
 * Process 1 of a pid namespace on hosts that have no shell or no mount program: the same protocol as the shell script of
 * ./pid-namespace.ts. Started by it, with the mount point as the only argument.
 */
import { createInterface } from "node:readline";
import { MS_NODEV, MS_NOEXEC, MS_NOSUID } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";

const mountPoint = process.argv[2] ?? "/proc";
const mounted = raw.mount("proc", mountPoint, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
process.stdout.write(mounted < 0 ? "refused\n" : "mounted\n");
createInterface({ input: process.stdin }).on("line", () => {
  try {
    process.kill(-1, "SIGKILL");
  } catch {
    // Nobody was left to kill.
  }
  process.stdout.write("killed\n");
});
