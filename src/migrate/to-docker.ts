/**
 * A store's images into Docker's root, where the next dockerd finds them: same IDs, and `docker save` gives the same layers
 * byte for byte. What Docker has already is kept. Containers stay behind, as Docker wants to know how to run one and the
 * store knows only its files.
 */
import { isLamellaError, type LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { Slots } from "../lib/slots.ts";
import type { ChainId } from "../oci/digest.ts";
import { failpoint } from "../store/failpoints.ts";
import type { ImageListing, Store } from "../store/store.ts";
import type { LayerRecord } from "../store/types.ts";
import { DockerRoot } from "./docker-root/docker-root.ts";
import { DockerWriter, maxDockerLayers } from "./docker-root/docker-writer.ts";
import { isOfOneLayer, type LayerProgress } from "./layer-mover.ts";
import type { MigrationProgress, MigrationReport, Note } from "./report.ts";

export interface ToDockerOptions {
  /** Docker's data root; made when it is not there. */
  readonly root: string;
  /** Docker's storage driver; default: the one that has images there, else overlay2. */
  readonly dockerDriver?: string | undefined;
  /** Only tell what would be done. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: MigrationProgress) => void) | undefined;
}

/** The most layers that are written at once. */
const layersAtOnce = 3;

/** Writes the store's images into Docker's root. Errors: those of DockerWriter.open, and what ends the whole. */
export async function migrateToDocker(store: Store, options: ToDockerOptions): Promise<MigrationReport> {
  const leftOut: Note[] = [];
  const images = store.images().filter((image) => {
    const depth = store.layersOf(image.chainId).length;
    if (depth > maxDockerLayers) {
      const message = `it has ${depth} layers, Docker stacks ${maxDockerLayers}: flatten it (\`lamella import\` of its tree)`;
      leftOut.push({ subject: nameOf(image), message });
    }
    return depth <= maxDockerLayers;
  });
  const needed = new Map<ChainId, LayerRecord>();
  for (const { chainId } of images) for (const layer of store.layersOf(chainId)) needed.set(layer.chainId, layer);
  const layers = [...needed.values()].sort((a, b) => a.depth - b.depth);
  const notes: Note[] = store.containers().map(({ id, name }) => ({
    subject: name ?? id,
    message: "container: it stays behind; `lamella commit` makes an image of it",
  }));
  if (options.dryRun) return dryReport(images, layers, { leftOut, notes, ...options });

  using docker = DockerWriter.open({ path: options.root, driver: options.dockerDriver });
  const writing = new LayerWriting(store, docker, options);
  const failures = await writing.write(layers);
  const moved = images.filter((image) => {
    const failure = store.layersOf(image.chainId).flatMap(({ chainId }) => failures.get(chainId) ?? [])[0];
    if (failure !== undefined) leftOut.push({ subject: nameOf(image), message: failure.message });
    return failure === undefined;
  });
  for (const { id } of moved) docker.addImage(id, (await store.config(id)).bytes);
  failpoint("migrate.docker-images");
  docker.setTags(moved.flatMap(({ id, tags }) => tags.map((tag) => [tag, id] as const)));
  notes.push({ subject: docker.path, message: `start dockerd with --storage-driver ${docker.driver}` });
  const { made, madeBytes, sharedBytes } = writing;
  return {
    dryRun: false,
    images: moved.map(({ id, tags }) => ({ id, tags })),
    containers: [],
    layers: { count: layers.length, made, madeBytes, sharedBytes },
    leftOut,
    notes,
  };
}

function dryReport(
  images: readonly ImageListing[],
  layers: readonly LayerRecord[],
  { root, dockerDriver, leftOut, notes }: ToDockerOptions & { readonly leftOut: Note[]; readonly notes: Note[] },
): MigrationReport {
  using docker = lookAt(root, dockerDriver);
  const known = docker?.read().layers;
  const missing = layers.filter(({ chainId }) => !known?.has(chainId));
  if (docker?.isRunning) notes.push({ subject: root, message: "dockerd is running: stop it before the move" });
  return {
    dryRun: true,
    images: images.map(({ id, tags }) => ({ id, tags })),
    containers: [],
    layers: {
      count: layers.length,
      made: missing.length,
      madeBytes: missing.reduce((sum, { tarSizeBytes }) => sum + tarSizeBytes, 0),
      sharedBytes: 0,
    },
    leftOut,
    notes,
  };
}

/** A root that has images; undefined for one that is to be made. */
function lookAt(path: string, driver: string | undefined): DockerRoot | undefined {
  try {
    return DockerRoot.open({ path, driver, lookOnly: true });
  } catch (error) {
    if (isLamellaError(error, "not_found")) return undefined;
    throw error;
  }
}

/** Writes layers, several at once, each when the one below it is there. */
class LayerWriting {
  made = 0;
  madeBytes = 0;
  sharedBytes = 0;
  readonly #store: Store;
  readonly #docker: DockerWriter;
  readonly #options: ToDockerOptions;
  readonly #slots = new Slots(layersAtOnce);
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;

  constructor(store: Store, docker: DockerWriter, options: ToDockerOptions) {
    this.#store = store;
    this.#docker = docker;
    this.#options = options;
    const own = this.#abort.signal;
    this.#signal = options.signal === undefined ? own : AbortSignal.any([own, options.signal]);
  }

  /** Answers what failed of single layers; everything else is thrown. */
  async write(layers: readonly LayerRecord[]): Promise<ReadonlyMap<ChainId, LamellaError>> {
    const written = new Map<ChainId, Promise<void>>();
    for (const layer of layers) {
      const task = this.#write(layer, layer.parent && written.get(layer.parent));
      task.catch((error: unknown) => {
        if (!isOfOneLayer(error)) this.#abort.abort(error);
      });
      written.set(layer.chainId, task);
    }
    const failures = new Map<ChainId, LamellaError>();
    let fatal: unknown;
    for (const [chainId, task] of written) {
      try {
        await task;
      } catch (error) {
        if (isOfOneLayer(error)) failures.set(chainId, error);
        else if (fatal === undefined || isLamellaError(fatal, "canceled")) fatal = error;
      }
    }
    if (fatal !== undefined) throw fatal;
    return failures;
  }

  async #write(layer: LayerRecord, parent: Promise<void> | undefined): Promise<void> {
    await parent;
    throwIfAborted(this.#signal);
    const { chainId, diffId, tarSizeBytes } = layer;
    const tell = (event: LayerProgress["event"], bytes: number, sharedBytes?: number): void =>
      this.#options.onProgress?.({ kind: "layer", diffId, event, bytes, totalBytes: tarSizeBytes, sharedBytes });
    if (this.#docker.has(chainId)) {
      tell("exists", tarSizeBytes);
      return;
    }
    using _slot = await this.#slots.take();
    throwIfAborted(this.#signal);
    tell("started", 0);
    await using source = await this.#store.tarSource(chainId);
    const directory = source.value.content.layers[0] ?? "";
    const written = await this.#docker.addLayer(
      {
        parent: layer.parent,
        diffId,
        tar: this.#store.readLayer(chainId, { signal: this.#signal }),
        source: source.value,
        // Not hard links: what Docker's side does to its files is not Lamella's to vouch for.
        donor: { directory, link: false },
      },
      { signal: this.#signal, onProgress: (bytes) => tell("bytes", bytes) },
    );
    this.made++;
    this.madeBytes += written.tarSizeBytes;
    this.sharedBytes += written.sharedBytes;
    tell("done", written.tarSizeBytes, written.sharedBytes);
  }
}

function nameOf({ id, tags }: ImageListing): string {
  return tags[0] ?? id;
}
