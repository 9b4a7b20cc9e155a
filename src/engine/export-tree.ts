/** Writes a whole root file system, as a tar or a directory: what `build --output type=tar` and `type=local` give. */
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { exportLayer } from "../diff/export-layer.ts";
import type { Driver, LayerId } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { copyTreeInBackground } from "../fs/tree-jobs.ts";
import { bytesOfText } from "../lib/bytes.ts";

export interface ExportTreeOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Writes the tree of a layer and all below it to the tar file `path`, which appears when it is complete. */
export async function exportTreeToTar(
  driver: Driver,
  layerId: LayerId,
  path: string,
  { signal }: ExportTreeOptions,
): Promise<void> {
  await using mounted = await driver.mount(layerId, { readOnly: true });
  const unfinished = `${resolve(path)}.${process.pid}.partial`;
  try {
    await exportLayer({
      source: { kind: "trees", parent: undefined, tree: mounted.path },
      tarPath: unfinished,
      signal,
    });
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}

/** Copies the tree of a layer and all below it to the directory `path`, which is made, or is empty. */
export async function exportTreeToDirectory(
  driver: Driver,
  layerId: LayerId,
  path: string,
  { signal }: ExportTreeOptions,
): Promise<void> {
  mkdirSync(path, { recursive: true });
  if (readdirSync(path).length > 0) {
    throw new LamellaError("failed_precondition", "NOT_EMPTY", `${path} is not empty`, {
      hint: "name a new or empty directory",
    });
  }
  await using mounted = await driver.mount(layerId, { readOnly: true });
  await copyTreeInBackground(mounted.path, bytesOfText(resolve(path)), signal === undefined ? {} : { signal });
}
