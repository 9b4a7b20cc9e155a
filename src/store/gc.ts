/**
 * Garbage collection. What keeps things alive: an image its layers and config; a container the chain it stands on; a cache
 * row the chain its step gave; a process what it holds. Cache rows end by age; images only when asked for and untagged.
 */
import type { Digest } from "../oci/digest.ts";
import { noteUsedCacheRows } from "./cache.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { findUnneeded } from "./reachability.ts";
import { deleteOrphans, findOrphans } from "./reclaim.ts";
import { deleteForgotten, forget } from "./remove.ts";
import type { GcOptions } from "./requests.ts";
import { rowsOf, valuesOf } from "./tables.ts";
import type { GcReport } from "./types.ts";

const dayMs = 86_400_000;

/** See `Store.gc`. */
export async function collectGarbage(store: StoreContext, options: GcOptions): Promise<GcReport> {
  const { tables } = store;
  const { cacheMaxAgeMs = 7 * dayMs, untaggedImages = false } = options;
  const now = Date.now();
  const { forgotten, ...counts } = tables.meta.write(() => {
    noteUsedCacheRows(store, new Date(now).toISOString());
    let cacheRows = 0;
    for (const [key, row] of rowsOf(tables.cache)) {
      const isLost = row.chainId !== undefined && !tables.layers.doesExist(row.chainId);
      if (!isLost && now - Date.parse(row.usedAt) < cacheMaxAgeMs) continue;
      tables.cache.removeSync(key);
      cacheRows++;
    }
    const images = untaggedImages ? untagged(store) : [];
    for (const id of images) tables.imageRows.removeSync(id);
    return { forgotten: forget(store, findUnneeded(store).layers, images), images: images.length, cacheRows };
  });
  failpoint("gc.forgotten");
  await deleteForgotten(store, forgotten);
  const orphans = await findOrphans(store);
  await deleteOrphans(store, orphans);
  failpoint("gc.swept");
  return {
    ...counts,
    layers: forgotten.layers.length,
    blobs: forgotten.blobs.length,
    orphans: new Set([...orphans.layers, ...orphans.records, ...orphans.spills]).size + orphans.blobs.length,
  };
}

/** Images without tag and container. */
function untagged(store: StoreContext): Digest[] {
  const { tables } = store;
  const used = new Set([...valuesOf(tables.tags), ...valuesOf(tables.containerRows).map(({ image }) => image)]);
  return valuesOf(tables.imageRows).flatMap(({ id }) => (used.has(id) ? [] : [id]));
}
