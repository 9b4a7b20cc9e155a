/** Making a directory with all above it. */
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Makes the directory at `path`, and those above it with mode 0755, where they are not there. `mode` is for the last one.
 * Node's own recursive mkdir does not end where the kernel makes no directories, as below /proc; this one fails.
 */
export function makeDirectories(path: string, mode = 0o755): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (path !== dirname(path)) makeDirectories(dirname(path));
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // Another process may have been quicker.
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}
