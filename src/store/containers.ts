/** Containers: writable layers on top of images. */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { type ExportedLayer, type ExportLayerOptions, exportLayer } from "../diff/export-layer.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { flushFileSystem } from "../fs/flush.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { nearest } from "../lib/nearest.ts";
import { configTime, encodeConfig, type ImageConfig, parseConfig } from "../oci/config.ts";
import { readBlob } from "./blobs.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { ambiguous, requireImage } from "./images.ts";
import { publish } from "./publish.ts";
import { askForSweep } from "./remove.ts";
import type { ActiveLayer, CommitOptions } from "./requests.ts";
import type { Staging } from "./staging.ts";
import { valuesOf } from "./tables.ts";
import type { ContainerRecord, ImageRecord } from "./types.ts";

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export interface ContainerOptions {
  readonly image: string;
  readonly name?: string | undefined;
  readonly sizeBytes?: number | undefined;
  readonly durable?: boolean | undefined;
}

/** See `Store.createContainer`. */
export async function createContainer(
  store: StoreContext,
  staging: Staging,
  options: ContainerOptions,
): Promise<ContainerRecord> {
  const { name, sizeBytes } = options;
  const { tables } = store;
  if (name !== undefined && !namePattern.test(name)) {
    throw new LamellaError("invalid_argument", "CONTAINER_NAME", `${JSON.stringify(name)} is no container name`, {
      hint: "use letters, digits, `_`, `.` and `-`, the first a letter or digit",
    });
  }
  if (name !== undefined) refuseName(store, name);
  const { record: image } = requireImage(store, options.image);
  const parent = image.chainId === undefined ? undefined : tables.chain(image.chainId).at(-1);
  const active = await staging.begin(parent, sizeBytes === undefined ? {} : { sizeBytes });
  try {
    failpoint("container.created");
    const id = randomBytes(32).toString("hex");
    const createdAt = new Date().toISOString();
    const made = { id, name, image: image.id, chainId: image.chainId, createdAt };
    // Waiting for a whole file system to be written is long on a busy host, and an empty layer can be made anew.
    const isMendable = store.driver.mend !== undefined && (sizeBytes ?? store.driver.writableSizeBytes ?? 0) === 0;
    const flush = options.durable !== false && !isMendable;
    return await recordContainer(store, staging, { active, container: made, flush });
  } catch (error) {
    await staging.discard(active);
    throw error;
  }
}

/** See `Store.adoptContainer`: makes a layer that is filled already the container's. */
export async function recordContainer(
  store: StoreContext,
  staging: Staging,
  request: {
    readonly active: ActiveLayer;
    readonly container: Omit<ContainerRecord, "layerId">;
    /** The layer is made durable before the container is; layers that the driver mends after a power cut need not. */
    readonly flush: boolean;
  },
): Promise<ContainerRecord> {
  const { active, container, flush } = request;
  const { tables } = store;
  if (store.durable && flush) await flushFileSystem(bytesOfText(store.paths.root));
  const record: ContainerRecord = { ...container, layerId: active.layerId };
  tables.meta.write(() => {
    if (record.name !== undefined) refuseName(store, record.name);
    if (tables.containerRows.doesExist(record.id)) throw idTaken(record.id);
    if (!tables.imageRows.doesExist(record.image)) requireImage(store, record.image);
    tables.containerRows.putSync(record.id, record);
  });
  failpoint("container.recorded");
  await staging.adopted(active);
  return record;
}

/** See `Store.container`. */
export function requireContainer(store: StoreContext, text: string): ContainerRecord {
  const { tables } = store;
  tables.meta.fresh();
  const exact = tables.containerRows.get(text);
  if (exact !== undefined) return exact;
  const all = valuesOf(tables.containerRows);
  const named = all.find((container) => container.name === text);
  if (named !== undefined) return named;
  if (/^[0-9a-f]{1,64}$/.test(text)) {
    const matching = all.filter((container) => container.id.startsWith(text));
    if (matching.length > 1)
      throw ambiguous(
        "container",
        text,
        matching.slice(0, 3).map(({ id }) => id),
      );
    if (matching[0] !== undefined) return matching[0];
  }
  const near = nearest(
    text,
    all.flatMap((container) => container.name ?? []),
  );
  throw new LamellaError("not_found", "NO_SUCH_CONTAINER", `no container ${JSON.stringify(text)} in the store`, {
    hint: near.length > 0 ? `did you mean ${near.join(", ")}?` : "`lamella create IMAGE` makes one and prints its ID",
  });
}

/** See `Store.containers`. */
export function listContainers(store: StoreContext): ContainerRecord[] {
  store.tables.meta.fresh();
  return valuesOf(store.tables.containerRows).sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt));
}

/** See `Store.removeContainer`. */
export async function removeContainer(store: StoreContext, text: string, force: boolean): Promise<void> {
  const { tables, holds, driver } = store;
  const record = requireContainer(store, text);
  if (force) await driver.unmountAll(record.layerId);
  holds.holdLayer(record.layerId);
  try {
    const isOurs = tables.meta.write(() => tables.containerRows.removeSync(record.id));
    failpoint("container.forgotten");
    if (!isOurs) return;
    try {
      await driver.remove(record.layerId);
    } catch (error) {
      if (driver.exists(record.layerId)) tables.meta.write(() => tables.containerRows.putSync(record.id, record));
      else askForSweep(store.paths.locks);
      throw error;
    }
    failpoint("container.removed");
    store.deleteRecord(record.layerId);
  } finally {
    holds.releaseLayer(record.layerId);
  }
}

/** See `Store.commitContainer`. The diff goes through a file, so that the container's own layer stays as it is. */
export async function commitContainer(
  store: StoreContext,
  staging: Staging,
  text: string,
  options: CommitOptions,
): Promise<ImageRecord> {
  const { signal, clampMtimeSec } = options;
  const container = requireContainer(store, text);
  const parent = container.chainId === undefined ? undefined : store.tables.chain(container.chainId).at(-1);
  const tarPath = store.temporaryPath("commit");
  await mkdir(store.temporaryDirectory, { recursive: true, mode: 0o700 });
  try {
    const { diffId, tarSizeBytes } = await exportChanges(store, container, { tarPath, clampMtimeSec, signal });
    failpoint("commit.tar-written");
    const tar = { file: tarPath, offset: 0, length: tarSizeBytes };
    const what = `the changes of container ${container.name ?? container.id.slice(0, 12)}`;
    const layer = await staging.unpack({ parent, expectedDiffId: diffId, tar, what, signal });
    try {
      const { chainId } = await layer.done;
      rmSync(tarPath, { force: true });
      const config = encodeConfig(configOf(store, container, options, diffId));
      const image = { config, chainId, tags: options.tags ?? [] };
      return (await publish(store, staging, { layers: [layer], image, signal })) as ImageRecord;
    } catch (error) {
      await staging.discard(layer);
      throw error;
    }
  } finally {
    rmSync(tarPath, { force: true });
  }
}

/** The source is let go before the layer is unpacked: what drivers mount for it is not needed any more. */
async function exportChanges(
  store: StoreContext,
  container: ContainerRecord,
  options: Omit<ExportLayerOptions, "source">,
): Promise<ExportedLayer> {
  await using source = await store.driver.diffSource(container.layerId);
  return await exportLayer({ ...options, source: source.value });
}

function configOf(
  store: StoreContext,
  container: ContainerRecord,
  options: CommitOptions,
  diffId: ImageConfig["rootfs"]["diff_ids"][number],
): ImageConfig {
  const base = parseConfig(readBlob(store, container.image));
  const created = options.createdAt ?? configTime(new Date());
  const { author, comment } = options;
  const entry = {
    created,
    ...(author === undefined ? {} : { author }),
    ...(comment === undefined ? {} : { comment }),
  };
  const config: ImageConfig = {
    ...base,
    ...(author === undefined ? {} : { author }),
    created,
    history: [...(base.history ?? []), entry],
    rootfs: { type: "layers", diff_ids: [...base.rootfs.diff_ids, diffId] },
  };
  return options.edit?.(config) ?? config;
}

function idTaken(id: string): LamellaError {
  return new LamellaError("already_exists", "CONTAINER_ID_TAKEN", `there is a container ${id} already`);
}

function refuseName(store: StoreContext, name: string): void {
  const other = valuesOf(store.tables.containerRows).find((container) => container.name === name);
  if (other === undefined) return;
  throw new LamellaError(
    "already_exists",
    "CONTAINER_NAME_TAKEN",
    `the name ${name} belongs to container ${other.id.slice(0, 12)}`,
    { hint: `choose another name, or \`lamella rm ${name}\` first` },
  );
}
