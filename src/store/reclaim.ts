/**
 * What a start does about what crashes left, under the start lock (so that one process at a time does it).
 *
 * Always, and cheap when there is nothing: each file of a dead process (holds.ts) lists what it had in hand. What the tables
 * do not refer to and no living process holds is deleted, with the dead one's temporary files.
 *
 * A full sweep, which compares all names on disk with the tables, happens at the first start after a boot (what a power cut
 * leaves is listed nowhere) and where a removal failed. It and the driver's own reclaiming wait for a start that finds no
 * other process at work.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import type { LayerId } from "../drivers/driver.ts";
import { isLayerId } from "../drivers/layer-id.ts";
import { isLamellaError } from "../errors/lamella-error.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { type Digest, hexOf } from "../oci/digest.ts";
import { tryLock } from "./chain-lock.ts";
import { emit } from "./channels.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { type HeldNames, readAllHolds, readOtherHolds } from "./holds.ts";
import { neededBlobs } from "./reachability.ts";
import { askForSweep } from "./remove.ts";
import { valuesOf } from "./tables.ts";

/** Reclaims; the caller holds the start lock and has its own file of holds. */
export async function reclaimAtStart(store: StoreContext): Promise<void> {
  const { paths, tables, holds, driver } = store;
  const others = readOtherHolds(paths.locks, holds.owner);
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  const bootKey = `boot:${driver.name}`;
  const isFirstOfBoot = tables.meta.state.get(bootKey) !== bootId;
  const isAsked = existsSync(`${paths.locks}/sweep`);
  if (others.deadOwners.length === 0 && !isFirstOfBoot && !isAsked) return;

  tables.meta.dropDeadReaders();
  const isAlone = others.livingOwners.length === 0;
  if (isAlone && isFirstOfBoot) await mendContainers(store);
  const found = isAlone && (isFirstOfBoot || isAsked) ? await findOrphans(store) : orphansOf(store, others.dead);
  await deleteOrphans(store, found);
  for (const owner of others.deadOwners) removeTree(bytesOfText(`${paths.temporary}/${owner}`));
  for (const name of readdirSync(paths.locks)) {
    // Whoever takes a lock deletes its file when he lets go.
    if (name.startsWith("c-")) tryLock(`${paths.locks}/${name}`)?.[Symbol.dispose]();
  }
  if (isAlone) {
    await driver.reclaim();
    rmSync(`${paths.locks}/sweep`, { force: true });
    if (isFirstOfBoot) tables.meta.write(() => tables.meta.state.putSync(bootKey, bootId));
  } else if (others.deadOwners.length > 0) askForSweep(paths.locks);
  for (const owner of others.deadOwners) rmSync(`${paths.locks}/${owner}`, { force: true });
  const other = found.records.length + found.spills.length + found.blobs.length + found.temporaries.length;
  emit("reclaim", { layers: found.layers.length, other: other + others.deadOwners.length });
}

/** Gives containers' layers back what a power cut took; they are not flushed when they are made. */
async function mendContainers(store: StoreContext): Promise<void> {
  const { driver, tables } = store;
  for (const { layerId, chainId } of valuesOf(tables.containerRows)) {
    const parent = chainId === undefined ? undefined : tables.layers.get(chainId);
    if (chainId !== undefined && parent === undefined) continue;
    try {
      if (await driver.mend?.(layerId, parent?.layerId)) emit("mend", { layerId });
    } catch (error) {
      // What is wrong with an image's layers is for `check` to say; the store opens all the same.
      if (!isLamellaError(error, "data_loss", "not_found")) throw error;
    }
  }
}

/** Names on disk that nothing refers to and no living process holds. */
export interface Orphans {
  readonly layers: readonly LayerId[];
  readonly records: readonly string[];
  readonly spills: readonly string[];
  readonly blobs: readonly Digest[];
  /** Directories of temporary files whose process is gone. */
  readonly temporaries: readonly string[];
}

/** Compares all names on disk with the tables. */
export async function findOrphans(store: StoreContext): Promise<Orphans> {
  const { paths, tables, driver, holds } = store;
  const layersOnDisk = await driver.list();
  const records = readdirSync(paths.records);
  const spills = readdirSync(paths.spills);
  const blobs = blobsOnDisk(paths.blobs);
  const temporaries = readdirSync(paths.temporary);
  // Then the holds, then the tables: what was on disk is in the one, or has gone over into the other.
  const { living, livingOwners } = readOtherHolds(paths.locks, holds.owner);
  const held = merged(living, holds.names);
  const heldBlobs = allHeldBlobs(store);
  tables.meta.fresh();
  const known = knownLayers(store);
  const isOrphan = (name: string): boolean => !known.has(name) && !held.layers.has(name);
  const needed = neededBlobs(store);
  return {
    layers: layersOnDisk.filter(isOrphan),
    records: records.filter(isOrphan),
    spills: spills.filter(isOrphan),
    blobs: blobs.filter((blob) => !needed.has(blob) && !heldBlobs.has(hexOf(blob))),
    temporaries: temporaries.filter(
      (name) => name !== holds.owner && !livingOwners.includes(name) && !isOfAnotherDriver(store, name),
    ),
  };
}

/** Deletes orphans, layers on top before those below them. */
export async function deleteOrphans(store: StoreContext, orphans: Orphans): Promise<void> {
  const { paths, driver } = store;
  const depths = new Map<LayerId, number>();
  const depthOf = (layer: LayerId): number => {
    let depth = 0;
    for (let at: LayerId | undefined = layer; at !== undefined && driver.exists(at); at = driver.parentOf(at)) depth++;
    return depth;
  };
  for (const layer of orphans.layers) depths.set(layer, depthOf(layer));
  const byDepth = [...orphans.layers].sort((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0));
  for (const layer of byDepth) {
    await store.deleteLayer(layer);
    failpoint("reclaim.layer-removed");
  }
  for (const name of orphans.records) removeTree(bytesOfText(`${paths.records}/${name}`));
  for (const name of orphans.spills) removeTree(bytesOfText(`${paths.spills}/${name}`));
  for (const blob of orphans.blobs) rmSync(paths.blob(blob), { force: true });
  for (const name of orphans.temporaries) removeTree(bytesOfText(`${paths.temporary}/${name}`));
  failpoint("reclaim.swept");
}

/** What the dead had in hand and nobody else needs. */
function orphansOf(store: StoreContext, dead: HeldNames): Orphans {
  const { paths, tables, holds } = store;
  const living = merged(readOtherHolds(paths.locks, holds.owner).living, holds.names);
  tables.meta.fresh();
  const known = knownLayers(store);
  const layers = [...dead.layers].filter((name) => !known.has(name) && !living.layers.has(name)).filter(isLayerId);
  const needed = neededBlobs(store);
  const blobs = [...dead.blobs]
    .map((hex) => `sha256:${hex}` as Digest)
    .filter((blob) => !needed.has(blob) && !living.blobs.has(hexOf(blob)));
  return { layers, records: layers, spills: layers, blobs, temporaries: [] };
}

/** The driver's names of all layers that the tables refer to. */
function knownLayers(store: StoreContext): Set<string> {
  const known = new Set<string>();
  for (const layer of valuesOf(store.tables.layers)) known.add(layer.layerId);
  for (const container of valuesOf(store.tables.containerRows)) known.add(container.layerId);
  return known;
}

function allHeldBlobs(store: StoreContext): Set<string> {
  const held = new Set<string>();
  for (const driver of store.tables.meta.drivers())
    for (const hex of readAllHolds(store.paths.locksOf(driver)).blobs) held.add(hex);
  return held;
}

function merged(a: HeldNames, b: HeldNames): HeldNames {
  return { layers: new Set([...a.layers, ...b.layers]), blobs: new Set([...a.blobs, ...b.blobs]) };
}

function isOfAnotherDriver(store: StoreContext, owner: string): boolean {
  return store.tables.meta.drivers().some((driver) => existsSync(`${store.paths.locksOf(driver)}/${owner}`));
}

function blobsOnDisk(directory: string): Digest[] {
  return readdirSync(directory).flatMap((algorithm) =>
    readdirSync(`${directory}/${algorithm}`).map((hex) => `${algorithm}:${hex}` as Digest),
  );
}
