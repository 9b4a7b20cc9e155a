/** Whole trees copied, removed and measured, large ones in worker threads. */
import type { ByteString } from "../lib/bytes.ts";
import type { CopiedTree } from "./copy-tree.ts";
import { diskUsage } from "./disk-usage.ts";
import { measureTree, type TreeUsage } from "./tree-usage.ts";
import { WorkerPool, workerUrl } from "./worker-pool.ts";

export type TreeJob =
  | { readonly kind: "copy"; readonly source: ByteString; readonly target: ByteString }
  | { readonly kind: "remove"; readonly path: ByteString }
  | { readonly kind: "sync"; readonly path: ByteString };

export type TreeResult =
  | { readonly kind: "copy"; readonly copied: CopiedTree }
  | { readonly kind: "remove" }
  | { readonly kind: "sync" };

let shared: WorkerPool<TreeJob, TreeResult> | undefined;
function run(job: TreeJob, signal?: AbortSignal): Promise<TreeResult> {
  shared ??= new WorkerPool(workerUrl(import.meta.url, "./tree-worker"), 2);
  return shared.run(job, { signal });
}

/** See copyTree. A cancelled copy leaves what it has copied so far. */
export async function copyTreeInBackground(
  source: ByteString,
  target: ByteString,
  options: { readonly signal?: AbortSignal } = {},
): Promise<CopiedTree> {
  const result = await run({ kind: "copy", source, target }, options.signal);
  return (result as Extract<TreeResult, { kind: "copy" }>).copied;
}

/** See removeTree. */
export async function removeTreeInBackground(path: ByteString): Promise<void> {
  await run({ kind: "remove", path });
}

/** Writes out what the file system at `path` has not written yet. */
export async function syncInBackground(path: ByteString): Promise<void> {
  await run({ kind: "sync", path });
}

const ENOUGH = new Error("more than is measured on the spot");

/** See measureTree: small trees on the spot, large ones in a worker thread. */
export async function treeUsage(path: ByteString): Promise<TreeUsage> {
  let directories = 0;
  try {
    return measureTree(path, () => {
      if (++directories > 50) throw ENOUGH;
    });
  } catch (error) {
    if (error !== ENOUGH) throw error;
  }
  return diskUsage(path, { oneFileSystem: true });
}
