/** A directory to try things in, on the file system that will hold a driver's home. */
import { randomBytes } from "node:crypto";
import { parentPath } from "../fs/durable-file.ts";
import { removeTree } from "../fs/remove-tree.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";

const PREFIX = ".lamella-trial-";
/** A trial takes milliseconds; one this old has lost its process. */
const STALE_SEC = 60;

/** Trial directories that a crash has left in a home or right above it. */
export function staleTrials(home: ByteString): ByteString[] {
  const now = Date.now() / 1000;
  const stale: ByteString[] = [];
  for (const place of [home, parentPath(home)]) {
    using directory = sys.open(place, O_RDONLY | O_DIRECTORY);
    for (const { name } of sys.readdir(directory.fd)) {
      if (!name.startsWith(PREFIX)) continue;
      const stat = sys.statIfExists(directory.fd, name);
      if (stat !== undefined && now - stat.ctimeSec > STALE_SEC) stale.push(`${place}/${name}`);
    }
  }
  return stale;
}

/** The nearest directory at or above `path` that exists. */
export function nearestDirectory(path: ByteString): ByteString {
  let at = path;
  while (at !== "/" && sys.statIfExists(AT_FDCWD, at) === undefined) at = parentPath(at);
  return at;
}

/** An empty directory on the file system of `home`. It goes with all that is in it. */
export class TrialDirectory implements Disposable {
  readonly path: ByteString;

  constructor(home: ByteString) {
    this.path = `${nearestDirectory(home)}/${PREFIX}${randomBytes(6).toString("hex")}`;
    sys.mkdirat(AT_FDCWD, this.path, 0o700);
  }

  [Symbol.dispose](): void {
    removeTree(this.path);
  }
}

/** Runs `use` with an empty directory on the file system of `home`, and removes the directory. */
export function withTrialDirectory<T>(home: ByteString, use: (directory: ByteString) => T): T {
  using directory = new TrialDirectory(home);
  return use(directory.path);
}
