/** Finds the program a command names inside a root, so that a missing one is told before anything starts. */
import { join } from "node:path";
import { type ByteString, bytesOfText } from "../../lib/bytes.ts";
import { S_IFDIR, S_IFMT } from "../../sys/constants.ts";
import { locate } from "../rooted-path.ts";

/** What Docker gives a container whose image sets no PATH. */
export const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export type ExecutableLookup =
  | { readonly found: true; readonly path: string }
  | { readonly found: false; readonly exitCode: 126 | 127; readonly reason: string };

/** Looks `command` up inside the root, in `path` (a PATH) when it has no slash; relative ones start at `cwd`. */
export function findInRoot(rootFd: number, command: string, path: string, cwd: string): ExecutableLookup {
  const absolute = (name: string): string => (name.startsWith("/") ? name : join(cwd, name));
  const candidates = command.includes("/")
    ? [absolute(command)]
    : path.split(":").map((directory) => absolute(join(directory || ".", command)));
  let denied = false;
  for (const candidate of command === "" ? [] : candidates) {
    const kind = kindInRoot(rootFd, bytesOfText(candidate));
    if (kind === "executable") return { found: true, path: candidate };
    if (kind === "other") denied = true;
  }
  if (denied) return { found: false, exitCode: 126, reason: `${command}: permission denied` };
  const where = command.includes("/") ? "no such file" : "not found in PATH";
  return { found: false, exitCode: 127, reason: `${JSON.stringify(command)}: ${where}` };
}

function kindInRoot(rootFd: number, path: ByteString): "executable" | "other" | undefined {
  try {
    using found = locate(rootFd, path);
    if (found.stat === undefined) return undefined;
    const { mode } = found.stat;
    return (mode & S_IFMT) !== S_IFDIR && (mode & 0o111) !== 0 ? "executable" : "other";
  } catch {
    // A loop of links, a file used as a directory: nothing that can be run.
    return undefined;
  }
}
