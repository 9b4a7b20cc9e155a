/** Removing all that a store holds of one driver, as when it has been moved to another. */
import { LamellaError } from "../errors/lamella-error.ts";
import type { StoreContext } from "./context.ts";
import { deleteOrphans, findOrphans } from "./reclaim.ts";
import { askForSweep, deleteForgotten, forget } from "./remove.ts";
import { rowsOf, valuesOf } from "./tables.ts";

/** See `Store.clear`. First the rows, in one transaction; what they named is then nobody's, also after a crash. */
export async function clearStore(store: StoreContext): Promise<void> {
  const { tables, driver, paths } = store;
  const forgotten = tables.meta.write(() => {
    const containers = valuesOf(tables.containerRows);
    const mounted = containers.find(({ layerId }) => driver.inUse(layerId));
    if (mounted !== undefined) throw isMounted(mounted.name ?? mounted.id);
    for (const { id } of containers) tables.containerRows.removeSync(id);
    const images = valuesOf(tables.imageRows).map(({ id }) => id);
    for (const [tag] of rowsOf(tables.tags)) tables.tags.removeSync(tag);
    for (const [key] of rowsOf(tables.cache)) tables.cache.removeSync(key);
    for (const id of images) tables.imageRows.removeSync(id);
    return {
      containers,
      ...forget(
        store,
        valuesOf(tables.layers).sort((a, b) => b.depth - a.depth),
        images,
      ),
    };
  });
  // A crash from here on is mended at the next start that finds nobody else at work.
  askForSweep(paths.locks);
  for (const { layerId } of forgotten.containers) await store.deleteLayer(layerId);
  await deleteForgotten(store, forgotten);
  await deleteOrphans(store, await findOrphans(store));
}

function isMounted(name: string): LamellaError {
  return new LamellaError("failed_precondition", "CONTAINER_MOUNTED", `container ${name} is mounted`, {
    hint: `unmount it with \`lamella umount ${name}\``,
  });
}
