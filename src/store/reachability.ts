/** Which layers something needs. */
import type { ChainId, Digest } from "../oci/digest.ts";
import type { StoreContext } from "./context.ts";
import { type HeldNames, readAllHolds } from "./holds.ts";
import { valuesOf } from "./tables.ts";
import type { LayerRecord } from "./types.ts";

export interface Unneeded {
  /** Without an image, container, cache row, holder or layer on top; the uppermost first. */
  readonly layers: readonly LayerRecord[];
  readonly held: HeldNames;
}

/** Finds what nothing needs. Inside the transaction that removes it, or the answer is stale. */
export function findUnneeded(store: StoreContext): Unneeded {
  const { tables, paths } = store;
  const held = readAllHolds(paths.locks);
  const needed = new Set<ChainId>();
  const need = (chainId: ChainId | undefined): void => {
    for (let at = chainId; at !== undefined && !needed.has(at); at = tables.layers.get(at)?.parent) needed.add(at);
  };
  for (const image of valuesOf(tables.imageRows)) need(image.chainId);
  for (const container of valuesOf(tables.containerRows)) need(container.chainId);
  for (const row of valuesOf(tables.cache)) need(row.chainId);
  const layers = valuesOf(tables.layers);
  for (const layer of layers) if (held.layers.has(layer.layerId)) need(layer.chainId);
  return { layers: layers.filter((layer) => !needed.has(layer.chainId)).sort((a, b) => b.depth - a.depth), held };
}

/** The configs that images of any driver have. */
export function neededBlobs(store: StoreContext): Set<Digest> {
  const { meta } = store.tables;
  const blobs = new Set<Digest>();
  for (const driver of meta.drivers())
    for (const { value } of meta.table<{ readonly id: Digest }>(`${driver}/images`).getRange()) blobs.add(value.id);
  return blobs;
}
