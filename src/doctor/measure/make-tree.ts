/** A made tree to measure with: the shape of an image, many small files in directories of fifty, three levels deep. */
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../../errors/lamella-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_WRONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

const filesInDirectory = 50;
const directoriesInDirectory = 40;
const content = Buffer.from("a file of an image that somebody measures with\n");

export interface MakeTreeOptions {
  /** Files and directories, about. */
  readonly entries: number;
  readonly signal?: AbortSignal | undefined;
  /** Told how many there are now. */
  readonly onProgress?: (entries: number) => void;
}

/** Fills the empty directory `root`. */
export async function makeTree(root: ByteString, { entries, signal, onProgress }: MakeTreeOptions): Promise<void> {
  for (let made = 0, directory = 0; made < entries; directory++) {
    const above = `${root}/part${Math.floor(directory / directoriesInDirectory)}`;
    if (directory % directoriesInDirectory === 0) {
      sys.mkdirat(AT_FDCWD, above, 0o755);
      made++;
    }
    const path = `${above}/folder${directory}`;
    sys.mkdirat(AT_FDCWD, path, 0o755);
    made++;
    for (let file = 0; file < filesInDirectory && made < entries; file++, made++) {
      using opened = sys.open(`${path}/file${file}`, O_WRONLY | O_CREAT, 0o644);
      sys.writeAll(opened.fd, content);
    }
    onProgress?.(made);
    await setImmediate();
    throwIfAborted(signal);
  }
}

/** What a small build step writes: a directory with four files. Answers how many names that is. */
export function writeStep(root: ByteString): number {
  const directory = `${root}/lamella-measure`;
  sys.mkdirat(AT_FDCWD, directory, 0o755);
  for (const name of ["one", "two", "three", "four"]) {
    using opened = sys.open(`${directory}/${name}`, O_WRONLY | O_CREAT, 0o644);
    sys.writeAll(opened.fd, content);
  }
  return 5;
}
