/** Manifests of trees, written in a worker thread. */
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { ClockStamp } from "./clock-stamp.ts";

export interface ManifestJob {
  readonly tree: ByteString;
  readonly path: ByteString;
  readonly clock: ClockStamp | undefined;
}

let pool: WorkerPool<ManifestJob, void> | undefined;

/** See `writeManifest`. Errors: also `canceled`. */
export async function writeManifestInBackground(
  tree: ByteString,
  path: ByteString,
  options: { readonly clock?: ClockStamp; readonly signal?: AbortSignal } = {},
): Promise<void> {
  pool ??= new WorkerPool(workerUrl(import.meta.url, "./tree-manifest-worker"), 2);
  await pool.run({ tree, path, clock: options.clock }, { signal: options.signal });
}
