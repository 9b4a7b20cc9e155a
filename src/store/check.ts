/**
 * Does the disk hold what the tables say, and nothing else? Findings about what is lost name the image or container that
 * suffers. Repairing deletes what nothing refers to, and drops rows whose content is lost, so that loading or building the
 * image again works.
 */
import { existsSync } from "node:fs";
import { readLayerTar } from "../diff/tar-record.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import type { ChainId } from "../oci/digest.ts";
import { readBlob } from "./blobs.ts";
import type { StoreContext } from "./context.ts";
import { deleteOrphans, findOrphans } from "./reclaim.ts";
import { askForSweep } from "./remove.ts";
import type { CheckOptions } from "./requests.ts";
import { rowsOf, valuesOf } from "./tables.ts";
import type { CheckFinding, CheckReport, LayerRecord } from "./types.ts";

type Problem = Omit<CheckFinding, "repaired">;

/** See `Store.check`. */
export async function checkStore(store: StoreContext, options: CheckOptions): Promise<CheckReport> {
  const { tables } = store;
  tables.meta.fresh();
  const layers = valuesOf(tables.layers);
  const problems = [
    ...(await layerProblems(store, layers, options)),
    ...rowProblems(store),
    ...blobProblems(store),
    ...(await orphanProblems(store)),
  ];
  if (options.repair && problems.length > 0) await repair(store, problems);
  const findings = problems.map((problem) => ({ ...problem, repaired: options.repair === true }));
  const images = valuesOf(tables.imageRows).length;
  return { findings, layers: layers.length, images, blobs: images };
}

/** The exact tar of a layer. */
export async function* readLayer(
  store: StoreContext,
  layer: LayerRecord,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { driver, paths } = store;
  await using content = await driver.contentSource(layer.layerId);
  yield* readLayerTar({
    recordPath: paths.record(layer.layerId),
    spillDir: paths.spill(layer.layerId),
    content: content.value,
    diffId: layer.diffId,
    signal,
  });
}

async function layerProblems(
  store: StoreContext,
  layers: readonly LayerRecord[],
  { deep = false, signal }: CheckOptions,
): Promise<Problem[]> {
  const { driver, paths, tables } = store;
  const problems: Problem[] = [];
  for (const layer of layers) {
    const { chainId: subject, layerId } = layer;
    if (!driver.exists(layerId)) {
      problems.push({ kind: "lost_layer", subject, message: `its tree ${driver.name}/${layerId} is missing` });
      continue;
    }
    const parent = layer.parent && tables.layers.get(layer.parent);
    if (layer.parent !== undefined && parent === undefined) {
      problems.push({ kind: "broken_chain", subject, message: `it stands on ${layer.parent}, which is missing` });
    } else if (driver.parentOf(layerId) !== parent?.layerId) {
      problems.push({ kind: "broken_chain", subject, message: "in the driver it stands on another layer" });
    }
    if (!existsSync(paths.record(layerId))) {
      problems.push({ kind: "lost_record", subject, message: `its tar record ${paths.record(layerId)} is missing` });
    } else if (deep) {
      throwIfAborted(signal);
      const message = await failureOf(drain(readLayer(store, layer, signal)));
      if (message !== undefined) problems.push({ kind: "bad_layer", subject, message });
    }
  }
  return problems;
}

function rowProblems(store: StoreContext): Problem[] {
  const { tables, driver } = store;
  const problems: Problem[] = [];
  const isBroken = (chainId: ChainId | undefined): boolean => {
    for (let at = chainId; at !== undefined; ) {
      const layer = tables.layers.get(at);
      if (layer === undefined || !driver.exists(layer.layerId)) return true;
      at = layer.parent;
    }
    return false;
  };
  for (const { id: subject, chainId } of valuesOf(tables.imageRows))
    if (isBroken(chainId))
      problems.push({ kind: "broken_chain", subject, message: "image: one of its layers is lost" });
  for (const { id: subject, chainId, layerId } of valuesOf(tables.containerRows)) {
    if (!driver.exists(layerId))
      problems.push({ kind: "lost_layer", subject, message: "container: its layer is lost" });
    else if (isBroken(chainId)) problems.push({ kind: "broken_chain", subject, message: "container: a layer is lost" });
  }
  for (const [subject, { chainId }] of rowsOf(tables.cache))
    if (isBroken(chainId)) problems.push({ kind: "broken_chain", subject, message: "build cache: a layer is lost" });
  for (const [subject, id] of rowsOf(tables.tags))
    if (!tables.imageRows.doesExist(id))
      problems.push({ kind: "broken_chain", subject, message: `tag: no image ${id}` });
  return problems;
}

function blobProblems(store: StoreContext): Problem[] {
  const problems: Problem[] = [];
  for (const { id } of valuesOf(store.tables.imageRows)) {
    try {
      readBlob(store, id);
    } catch (error) {
      if (!(error instanceof LamellaError) || error.kind !== "data_loss") throw error;
      const kind = error.code === "BLOB_MISSING" ? "lost_blob" : "bad_blob";
      problems.push({ kind, subject: id, message: error.message });
    }
  }
  return problems;
}

async function orphanProblems(store: StoreContext): Promise<Problem[]> {
  const { layers, records, spills, blobs, temporaries } = await findOrphans(store);
  const message = "on disk, but nothing refers to it";
  return [
    ...layers.map((subject): Problem => ({ kind: "orphan_layer", subject, message })),
    ...records.map((subject): Problem => ({ kind: "orphan_record", subject, message })),
    ...spills.map((subject): Problem => ({ kind: "orphan_spill", subject, message })),
    ...blobs.map((subject): Problem => ({ kind: "orphan_blob", subject, message })),
    ...temporaries.map((subject): Problem => ({ kind: "orphan_temporary", subject, message })),
  ];
}

/**
 * Drops rows until what is left is whole: a layer that is lost or bad takes the layers on top of it, the images, cache rows
 * and containers that need it along. Their content on disk then is an orphan like any other.
 */
async function repair(store: StoreContext, problems: readonly Problem[]): Promise<void> {
  const { tables } = store;
  const lost = new Set(problems.flatMap(({ kind, subject }) => (kind.startsWith("orphan_") ? [] : [subject])));
  tables.meta.write(() => {
    const broken = new Set<string>();
    for (const layer of valuesOf(tables.layers).sort((a, b) => a.depth - b.depth)) {
      const isWhole =
        layer.parent === undefined || (tables.layers.doesExist(layer.parent) && !broken.has(layer.parent));
      if (isWhole && !lost.has(layer.chainId)) continue;
      broken.add(layer.chainId);
      tables.removeLayer(layer);
    }
    const isLost = (chainId: ChainId | undefined): boolean =>
      chainId !== undefined && (broken.has(chainId) || !tables.layers.doesExist(chainId));
    for (const { id, chainId } of valuesOf(tables.imageRows))
      if (lost.has(id) || isLost(chainId)) tables.imageRows.removeSync(id);
    for (const { id, chainId } of valuesOf(tables.containerRows))
      if (lost.has(id) || isLost(chainId)) tables.containerRows.removeSync(id);
    for (const [key, { chainId }] of rowsOf(tables.cache)) if (isLost(chainId)) tables.cache.removeSync(key);
    for (const [tag, id] of rowsOf(tables.tags)) if (!tables.imageRows.doesExist(id)) tables.tags.removeSync(tag);
  });
  try {
    await deleteOrphans(store, await findOrphans(store));
  } catch (error) {
    askForSweep(store.paths.locks);
    throw error;
  }
}

async function drain(tar: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _chunk of tar);
}

/** Why it failed; undefined when it did not. Being canceled is no finding. */
async function failureOf(work: Promise<void>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (error instanceof LamellaError && error.kind !== "canceled") return error.message;
    throw error;
  }
}
