/** When a disk is full: says which one, what it has left, and what was needed as far as that is known. */
import { existsSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { humanSize } from "../lib/human-size.ts";

/** What a command writes, and where. */
export interface Writing {
  readonly path: string;
  /** At least so much, as far as it is known before. */
  readonly neededBytes: number | undefined;
}

/** The error itself, or, for one that tells of a full disk, one that explains it. The clean-up has freed what was written. */
export function explainFullDisk(error: unknown, { path, neededBytes }: Writing): unknown {
  if (!hasCode(error, "ENOSPC", "EDQUOT") || !(error instanceof Error)) return error;
  let place = path;
  while (!existsSync(place) && place !== dirname(place)) place = dirname(place);
  const { bavail, bsize, ffree } = statfsSync(place);
  const needed = neededBytes === undefined ? "" : `, at least ${humanSize(neededBytes)} is needed`;
  const message = `no space left on the device (${error instanceof LamellaError ? error.message : path})`;
  return new LamellaError("resource_exhausted", "ENOSPC", message, {
    hint:
      `the file system of ${place} has ${humanSize(bavail * bsize)} and ${ffree} inodes free${needed}; ` +
      "make room there (`lamella gc --all` drops the build cache), or use another place",
    cause: error,
  });
}
