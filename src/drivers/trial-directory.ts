/** A directory to try things in, on the file system that will hold a driver's home. */
import { randomBytes } from "node:crypto";
import { parentPath } from "../fs/durable-file.ts";
import { removeTree } from "../fs/remove-tree.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";

/** The nearest directory at or above `path` that exists. */
export function nearestDirectory(path: ByteString): ByteString {
  let at = path;
  while (at !== "/" && sys.statIfExists(AT_FDCWD, at) === undefined) at = parentPath(at);
  return at;
}

/** Runs `use` with an empty directory on the file system of `home`, and removes the directory. */
export function withTrialDirectory<T>(home: ByteString, use: (directory: ByteString) => T): T {
  const directory = `${nearestDirectory(home)}/.lamella-trial-${randomBytes(6).toString("hex")}`;
  sys.mkdirat(AT_FDCWD, directory, 0o700);
  try {
    return use(directory);
  } finally {
    removeTree(directory);
  }
}
