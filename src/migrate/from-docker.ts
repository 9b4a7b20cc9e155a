/**
 * Docker's root into a store: images with their tags, and containers with what they wrote.
 *
 * Every layer comes as its exact tar, made of Docker's tar-split and the layer's tree and verified by its diff ID; so images
 * keep their IDs, and `save` gives what `docker save` gave. A layer whose tar-split is missing is diffed anew. Its diff ID is
 * then another, and so are the IDs of the images on it; that is told.
 *
 * Not brought over, as the store has no place for it: how containers are run, volumes and networks; where images were pulled
 * from; the classic builder's intermediate images, which only its own cache wants; and BuildKit's cache, which is not touched.
 */
import { rmSync } from "node:fs";
import { exportLayer } from "../diff/export-layer.ts";
import { throwIfAborted } from "../errors/lamella-error.ts";
import { type ChainId, chainIdsOf, type Digest, digestOf } from "../oci/digest.ts";
import { encodeJson, type JsonObject, parseJson } from "../oci/json.ts";
import type { Store } from "../store/store.ts";
import type { ContainerRecord } from "../store/types.ts";
import { type DockerPlan, nameOfImage, planDockerImport } from "./docker-plan.ts";
import { type DockerContents, DockerRoot } from "./docker-root/docker-root.ts";
import type { DockerImage } from "./docker-root/image-db.ts";
import type { DockerLayer } from "./docker-root/layer-db.ts";
import { readSplitTar } from "./docker-root/layer-tar.ts";
import { isOfOneLayer, type LayerToMove, type MovedLayers, moveLayers, type OpenLayer } from "./layer-mover.ts";
import { moveContainer } from "./move-container.ts";
import type { MigrationProgress, MigrationReport, MovedContainer, MovedImage, Note } from "./report.ts";

export interface FromDockerOptions {
  /** Docker's data root. */
  readonly root: string;
  /** Docker's storage driver; default: the only one with images. */
  readonly dockerDriver?: string | undefined;
  /** Only tell what would be done. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: MigrationProgress) => void) | undefined;
}

/** Brings Docker's images and containers into a store. Errors: those of DockerRoot.open, and what ends the whole move. */
export async function migrateFromDocker(store: Store, options: FromDockerOptions): Promise<MigrationReport> {
  const { dryRun = false, dockerDriver: driver } = options;
  using docker = DockerRoot.open({ path: options.root, driver, lookOnly: dryRun });
  const contents = docker.read();
  const plan = planDockerImport(contents, store.driver.capabilities.maxDepth);
  if (dryRun) return dryReport(store, docker, plan);
  return new DockerImport(store, docker, { contents, plan, options }).run();
}

function dryReport(store: Store, docker: DockerRoot, plan: DockerPlan): MigrationReport {
  const missing = plan.layers.filter(({ chainId }) => store.layer(chainId) === undefined);
  const bytes = missing.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const lost = missing.filter(({ splitPath }) => splitPath === undefined);
  return {
    dryRun: true,
    images: plan.images.map(({ id, tags }) => ({ id, tags })),
    containers: plan.containers.map(({ id, name }) => ({ id, name })),
    layers: { count: plan.layers.length, made: missing.length, madeBytes: bytes, sharedBytes: 0 },
    leftOut: plan.leftOut,
    notes: [
      ...plan.notes,
      ...lost.map((layer) => tarLost(layer)),
      ...(docker.isRunning ? [{ subject: docker.path, message: "dockerd is running: stop it before the move" }] : []),
    ],
  };
}

function tarLost({ chainId }: DockerLayer): Note {
  const message = "Docker has lost its exact tar: it gets a new digest, and its images new IDs";
  return { subject: chainId, message };
}

class DockerImport {
  readonly #store: Store;
  readonly #docker: DockerRoot;
  readonly #contents: DockerContents;
  readonly #plan: DockerPlan;
  readonly #options: FromDockerOptions;
  readonly #notes: Note[];
  readonly #leftOut: Note[];
  /** The images of the store by their IDs at Docker. */
  readonly #images = new Map<Digest, MovedImage>();

  constructor(
    store: Store,
    docker: DockerRoot,
    work: { readonly contents: DockerContents; readonly plan: DockerPlan; readonly options: FromDockerOptions },
  ) {
    this.#store = store;
    this.#docker = docker;
    this.#contents = work.contents;
    this.#plan = work.plan;
    this.#options = work.options;
    this.#notes = [...work.plan.notes];
    this.#leftOut = [...work.plan.leftOut];
  }

  async run(): Promise<MigrationReport> {
    const { signal, onProgress } = this.#options;
    using moved = await moveLayers(
      this.#store,
      this.#plan.layers.map((layer) => this.#toMove(layer)),
      { signal, onProgress: (progress) => onProgress?.({ kind: "layer", ...progress }) },
    );
    for (const image of this.#plan.images) {
      throwIfAborted(signal);
      await this.#publish(image, moved);
    }
    const containers: MovedContainer[] = [];
    for (const container of this.#plan.containers) {
      throwIfAborted(signal);
      const done = await this.#container(container, moved);
      if (done !== undefined) containers.push(done);
    }
    const { made, madeBytes, sharedBytes } = moved;
    return {
      dryRun: false,
      images: [...this.#images.values()],
      containers,
      layers: { count: this.#plan.layers.length, made, madeBytes, sharedBytes },
      leftOut: this.#leftOut,
      notes: this.#notes,
    };
  }

  // ---- layers

  #toMove(layer: DockerLayer): LayerToMove {
    const { chainId, parent, diffId } = layer;
    return {
      chainId,
      parent,
      diffId,
      tarSizeBytes: undefined,
      open: (signal) =>
        layer.splitPath === undefined ? this.#diffAnew(layer, signal) : this.#openSplit(layer, layer.splitPath, signal),
    };
  }

  async #openSplit(layer: DockerLayer, splitPath: string, signal: AbortSignal): Promise<OpenLayer> {
    const content = this.#docker.trees.content(layer.cacheId);
    const tar = readSplitTar({ root: this.#docker.rootPath, splitPath, content }, signal);
    const directory = content.layers[0] ?? "";
    // Not hard links: Docker's trees are not Lamella's to vouch for.
    return { diffId: layer.diffId, tar, donor: { directory, link: false }, [Symbol.asyncDispose]: async () => {} };
  }

  async #diffAnew(layer: DockerLayer, signal: AbortSignal): Promise<OpenLayer> {
    const { trees, owners } = this.#docker;
    const parent = layer.parent && this.#contents.layers.get(layer.parent)?.cacheId;
    const source = trees.changes(layer.cacheId, parent);
    const file = this.#store.temporaryFile("layer");
    const remove = async (): Promise<void> => rmSync(file, { force: true });
    try {
      const { diffId, tarSizeBytes } = await exportLayer({ source, tarPath: file, ownerOffset: owners, signal });
      if (diffId !== layer.diffId) this.#notes.push(tarLost(layer));
      return { diffId, tar: { file, offset: 0, length: tarSizeBytes }, [Symbol.asyncDispose]: remove };
    } catch (error) {
      await remove();
      throw error;
    }
  }

  // ---- images

  async #publish(image: DockerImage, moved: MovedLayers): Promise<void> {
    const chain = chainOf(image);
    const failure = chain.map((chainId) => moved.failures.get(chainId)).find((error) => error !== undefined);
    if (failure !== undefined) {
      this.#leftOut.push({ subject: nameOfImage(image), message: failure.message });
      return;
    }
    const records = chain.flatMap((chainId) => moved.records.get(chainId) ?? []);
    const diffIds = records.map(({ diffId }) => diffId);
    const isKept = diffIds.every((diffId, i) => diffId === image.config.rootfs.diff_ids[i]);
    const config = isKept ? image.configBytes : withDiffIds(image.configBytes, diffIds);
    const id = digestOf(config);
    const chainId = records.at(-1)?.chainId;
    await this.#store.publish({ image: { config, chainId, tags: image.tags } });
    this.#images.set(image.id, { id, tags: image.tags, ...(isKept ? {} : { formerId: image.id }) });
  }

  // ---- containers

  async #container(
    { id, name, image, createdAt, mount }: DockerContents["containers"][number],
    moved: MovedLayers,
  ): Promise<MovedContainer | undefined> {
    const movedImage = this.#images.get(image);
    if (movedImage === undefined) {
      this.#leftOut.push({ subject: name ?? id, message: `container: its image ${image} was left out` });
      return undefined;
    }
    const { onProgress } = this.#options;
    if (this.#store.containers().some((existing) => existing.id === id)) {
      onProgress?.({ kind: "container", container: { id, name }, event: "exists" });
      return { id, name };
    }
    try {
      const record = await this.#moveContainer({ id, name, createdAt, mount, image: movedImage.id }, moved);
      if (record.name !== name)
        this.#notes.push({
          subject: id,
          message: `container: the name ${name} is taken in the store; it has none now`,
        });
      onProgress?.({ kind: "container", container: { id, name: record.name }, event: "done" });
      return { id, name: record.name };
    } catch (error) {
      if (!isOfOneLayer(error)) throw error;
      this.#leftOut.push({ subject: name ?? id, message: `container: ${error.message}` });
      return undefined;
    }
  }

  async #moveContainer(
    { mount, ...container }: DockerContents["containers"][number],
    moved: MovedLayers,
  ): Promise<ContainerRecord> {
    const { trees, owners } = this.#docker;
    const parentCacheId = mount.parent && this.#contents.layers.get(mount.parent)?.cacheId;
    const changes = trees.containerChanges({ mountId: mount.mountId, initId: mount.initId, parentCacheId });
    return moveContainer(
      this.#store,
      {
        changes,
        ownerOffset: owners,
        directory: changes.kind === "upper" ? changes.upper : changes.tree,
        container,
        parent: mount.parent && moved.records.get(mount.parent),
      },
      this.#options.signal,
    );
  }
}

function chainOf(image: DockerImage): ChainId[] {
  return chainIdsOf(image.config.rootfs.diff_ids);
}

/** A config whose layers have other diff IDs, and is otherwise as it was. */
function withDiffIds(config: Uint8Array, diffIds: readonly string[]): Buffer {
  const document = parseJson(config, { what: "image config" }) as JsonObject;
  return encodeJson({ ...document, rootfs: { ...(document.rootfs as JsonObject), diff_ids: diffIds } });
}
