/**
 * Removing: first the rows, in one transaction and with what they named held by this process; then what lies on disk; then
 * the holds. A crash in between leaves held things that nothing refers to: the next start deletes them.
 */
import { writeFileSync } from "node:fs";
import { type Digest, hexOf } from "../oci/digest.ts";
import { removeBlobUnlessNeeded } from "./blobs.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { neededBlobs } from "./reachability.ts";
import type { LayerRecord } from "./types.ts";

/** What a transaction has forgotten. */
export interface Forgotten {
  /** The uppermost first. */
  readonly layers: readonly LayerRecord[];
  readonly blobs: readonly Digest[];
}

/** Inside a transaction: forgets layers, and blobs unless another image has them. */
export function forget(store: StoreContext, layers: readonly LayerRecord[], blobs: readonly Digest[]): Forgotten {
  for (const layer of layers) {
    store.holds.holdLayer(layer.layerId);
    store.tables.removeLayer(layer);
  }
  const needed = neededBlobs(store);
  const unneeded = blobs.filter((blob) => !needed.has(blob));
  for (const blob of unneeded) store.holds.holdBlob(hexOf(blob));
  return { layers, blobs: unneeded };
}

/**
 * Deletes what was forgotten. What cannot be deleted now (a mount in use) is left for a sweep at a later start; the first
 * such error is thrown when all else is done.
 */
export async function deleteForgotten(store: StoreContext, { layers, blobs }: Forgotten): Promise<void> {
  const errors: unknown[] = [];
  for (const layer of layers) {
    try {
      await store.driver.unmountAll(layer.layerId);
      await store.driver.remove(layer.layerId);
      failpoint("remove.layer-removed");
      store.deleteRecord(layer.layerId);
      failpoint("remove.record-removed");
    } catch (error) {
      errors.push(error);
    }
    store.holds.releaseLayer(layer.layerId);
  }
  for (const blob of blobs) {
    removeBlobUnlessNeeded(store, blob);
    failpoint("remove.blob-removed");
  }
  if (errors.length === 0) return;
  askForSweep(store.paths.locks);
  throw errors[0];
}

/** Asks the next start that finds nobody else at work to sweep all. */
export function askForSweep(locks: string): void {
  writeFileSync(`${locks}/sweep`, "");
}
