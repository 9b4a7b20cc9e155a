/**
 * The store: images, layers, containers and the build cache under one root directory.
 * docs/formats/store.md describes every file; in short:
 *
 *   <root>/meta/                     LMDB: layers, images, tags, containers, cache (tables.ts)
 *   <root>/blobs/sha256/<hex>        image configs
 *   <root>/records/<driver>/<layer>  how to give a layer's tar again, byte for byte
 *   <root>/spill/<driver>/<layer>/   contents a tar holds but the layer's tree does not
 *   <root>/<driver>/                 the driver's home: the layers' trees
 *   <root>/locks/<driver>/           who is at work on what (holds.ts)
 *   <root>/tmp/<process>/            temporary files of one process
 *
 * A layer's life: `beginLayer` or `unpackLayer` makes it in the driver, held by this process; its digest becomes known
 * (`done` of the StagedLayer); `publish` makes it durable and then known in ONE transaction, with the image, tags and cache
 * rows that come with it. Until then it does not exist for anyone else, and a crash leaves it to be reclaimed at the next
 * start. Whoever publishes a chain ID second keeps the layer that is there and drops his own.
 *
 * A published layer lives while an image, a container, a cache row, a layer on top of it, or a process that holds it needs
 * it. Any number of processes may work on one root.
 *
 * What only some commands need (archives, checks, collection) is loaded when it is called for: opening must be quick.
 */

import { mkdirSync } from "node:fs";
import type { TarSource } from "../diff/tar-record-job.ts";
import type { Driver, Use } from "../drivers/driver.ts";
import { useUntil } from "../drivers/use.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { disposable } from "../lib/disposables.ts";
import { type ImageConfig, parseConfig } from "../oci/config.ts";
import { type ChainId, type Digest, hexOf } from "../oci/digest.ts";
import { readBlob } from "./blobs.ts";
import { cacheGet } from "./cache.ts";
import {
  commitContainer,
  createContainer,
  listContainers,
  recordContainer,
  removeContainer,
  requireContainer,
} from "./containers.ts";
import type { StoreContext } from "./context.ts";
import { readOtherHolds } from "./holds.ts";
import { findImage, listImages, removeImage, requireImage, tagImage, tagsOf, untag } from "./images.ts";
import type { ImportOptions, ImportSource } from "./import-root.ts";
import type { LoadedImage, LoadOptions, LoadSource } from "./load.ts";
import { closeStore, openStore } from "./open-store.ts";
import { publish } from "./publish.ts";
import type {
  ActiveLayer,
  CheckOptions,
  CommitOptions,
  GcOptions,
  ImageListing,
  PublishRequest,
  StagedLayer,
  StoreOptions,
  UnpackOptions,
} from "./requests.ts";
import type { SaveOptions, SaveTarget } from "./save.ts";
import { Staging } from "./staging.ts";
import { rowsOf, valuesOf } from "./tables.ts";
import type {
  BuildCacheRecord,
  CheckReport,
  ContainerRecord,
  DiskUsage,
  GcReport,
  ImageRecord,
  LayerRecord,
  RemovedItem,
} from "./types.ts";

export type {
  ActiveLayer,
  CheckOptions,
  CommitOptions,
  GcOptions,
  ImageListing,
  PublishRequest,
  StagedLayer,
  StoreOptions,
  UnpackOptions,
} from "./requests.ts";

export class Store implements AsyncDisposable {
  /** Opens (or makes) a store and reclaims what crashed processes left. Errors: those of the driver. */
  static async open(options: StoreOptions): Promise<Store> {
    return new Store(await openStore(options));
  }

  readonly #store: StoreContext;
  readonly #staging: Staging;

  private constructor(store: StoreContext) {
    this.#store = store;
    this.#staging = new Staging(store);
  }

  /** Absolute path of the store. */
  get root(): string {
    return this.#store.paths.root;
  }

  get driver(): Driver {
    return this.#store.driver;
  }

  /** False for a store that flushes nothing. */
  get durable(): boolean {
    return this.#store.durable;
  }

  // ---- layers --------------------------------------------------------------------------------------------------------

  /** The published layer of that chain ID. */
  layer(chainId: ChainId): LayerRecord | undefined {
    this.#store.tables.meta.fresh();
    return this.#store.tables.layers.get(chainId);
  }

  /** All published layers, those below before those on top of them. */
  layers(): readonly LayerRecord[] {
    this.#store.tables.meta.fresh();
    return valuesOf(this.#store.tables.layers).sort((a, b) => a.depth - b.depth);
  }

  /** The layers of a chain, the base first; empty for undefined. Errors: not_found, data_loss when one below is missing. */
  layersOf(chainId: ChainId | undefined): readonly LayerRecord[] {
    this.#store.tables.meta.fresh();
    return this.#store.tables.chain(chainId);
  }

  /** Keeps a published layer (and all below it) from being removed until disposed. Errors: not_found. */
  hold(chainId: ChainId): Disposable {
    const record = this.#store.holdChain(chainId);
    if (record !== undefined) return disposable(() => this.#store.holds.releaseLayer(record.layerId));
    throw new LamellaError("not_found", "NO_SUCH_LAYER", `no layer ${chainId} in the store`);
  }

  /**
   * Unpacks a layer tar on top of `parent`. Comes back when the layer exists in the driver and may be a parent; the tar is
   * read behind it. With `expectedDiffId`, a layer that is published already, or that another process is unpacking now, is
   * waited for and used instead. Errors (through `done`): data_loss (DIFF_ID_MISMATCH), invalid_argument for a bad tar.
   */
  async unpackLayer(options: UnpackOptions): Promise<StagedLayer> {
    return this.#staging.unpack(options);
  }

  /** Makes a writable layer. Errors: not_found when the parent is gone, failed_precondition (DEPTH) beyond the driver's depth. */
  async beginLayer(
    parent: StagedLayer | LayerRecord | undefined,
    options: { readonly sizeBytes?: number } = {},
  ): Promise<ActiveLayer> {
    return this.#staging.begin(parent, options);
  }

  /** Ends writing to a layer (unmounted by now). Returns at once: computing the diff, its tar record and digest run behind. */
  sealLayer(
    active: ActiveLayer,
    options: { readonly clampMtimeSec?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): StagedLayer {
    return this.#staging.seal(active, options);
  }

  /** Removes a layer that was not published, unmounting it if need be. Layers on top of it must be discarded before. Idempotent. */
  async discardLayer(layer: ActiveLayer | StagedLayer): Promise<void> {
    await this.#staging.discard(layer);
  }

  /**
   * Waits for the layers' digests, makes all data durable (one syncfs), and publishes layers, image, tags and cache rows in
   * one transaction. When it fails the layers are still staged: publish again or discard them.
   * Errors: those of the layers; invalid_argument (DIFF_IDS) when the config does not list the chain's layers; aborted when
   * a layer the image needs has been removed meanwhile.
   */
  async publish(request: PublishRequest): Promise<ImageRecord | undefined> {
    return publish(this.#store, this.#staging, request);
  }

  /** The exact tar of a published layer; the stream fails with data_loss when the bytes no longer give the diff ID. */
  async *readLayer(
    chainId: ChainId,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Uint8Array> {
    using _hold = this.hold(chainId);
    const layer = this.layer(chainId) as LayerRecord;
    const { readLayer } = await import("./check.ts");
    yield* readLayer(this.#store, layer, options.signal);
  }

  /**
   * What a published layer's tar is made of, for a thread that reads it in its own way; the layer stays as long as that is in
   * use. Errors: not_found.
   */
  async tarSource(chainId: ChainId): Promise<Use<TarSource>> {
    const hold = this.hold(chainId);
    try {
      const { layerId, diffId } = this.layer(chainId) as LayerRecord;
      const content = await this.driver.contentSource(layerId);
      const { paths } = this.#store;
      const value: TarSource = {
        recordPath: bytesOfText(paths.record(layerId)),
        spillDir: bytesOfText(paths.spill(layerId)),
        content: content.value,
        sha256: hexOf(diffId),
      };
      return useUntil(value, async () => {
        using _ = hold;
        await content[Symbol.asyncDispose]();
      });
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  // ---- images --------------------------------------------------------------------------------------------------------

  /**
   * The image of a reference (`name` means `name:latest`), an ID, or a unique prefix of an ID. Errors: not_found with the
   * nearest names as hint, invalid_argument (AMBIGUOUS_ID).
   */
  image(text: string): ImageRecord {
    return requireImage(this.#store, text).record;
  }

  /** The same, but undefined for what is not there. */
  findImage(text: string): ImageRecord | undefined {
    return findImage(this.#store, text)?.record;
  }

  /** All images, the newest first. */
  images(): readonly ImageListing[] {
    return listImages(this.#store);
  }

  /** Tags of an image, sorted. */
  tagsOf(id: Digest): readonly string[] {
    return tagsOf(this.#store, id);
  }

  /** An image's config, its digest verified. Errors: not_found, data_loss. */
  async config(id: Digest): Promise<{ readonly bytes: Buffer; readonly config: ImageConfig }> {
    requireImage(this.#store, id);
    const bytes = readBlob(this.#store, id);
    return { bytes, config: parseConfig(bytes) };
  }

  /** Gives an image another name; a tag that exists moves. Returns it in full (`name:tag`). */
  tag(image: string, tag: string): string {
    return tagImage(this.#store, image, tag);
  }

  /** Takes a tag away; the image stays. Errors: not_found. */
  untag(tag: string): void {
    untag(this.#store, tag);
  }

  /**
   * As `docker rmi`: by a tag, takes that tag away, and removes the image with its last tag; by ID, removes the image with
   * its only tag. Errors: failed_precondition (IMAGE_IN_USE) when a container stands on it, (IMAGE_TAGGED) when by ID and it
   * has several tags; `force` goes ahead in both cases.
   */
  async removeImage(text: string, options: { readonly force?: boolean } = {}): Promise<readonly RemovedItem[]> {
    return removeImage(this.#store, text, options.force ?? false);
  }

  // ---- containers ----------------------------------------------------------------------------------------------------

  /** Makes a container. Errors: not_found, already_exists for the name, invalid_argument for a bad name. */
  async createContainer(options: {
    readonly image: string;
    readonly name?: string | undefined;
    readonly sizeBytes?: number | undefined;
    /** False: do not wait for the disk, for a container that ends with this process. Default: as the store. */
    readonly durable?: boolean;
  }): Promise<ContainerRecord> {
    return createContainer(this.#store, this.#staging, options);
  }

  /**
   * Makes a writable layer of `beginLayer`, filled by now, that of a container with a known ID. Errors: already_exists for
   * its ID or name, not_found for its image; the layer is still there then.
   */
  async adoptContainer(active: ActiveLayer, container: Omit<ContainerRecord, "layerId">): Promise<ContainerRecord> {
    return recordContainer(this.#store, this.#staging, { active, container, flush: true });
  }

  /** The container of a name, an ID, or a unique prefix of an ID. Errors: not_found, invalid_argument (AMBIGUOUS_ID). */
  container(text: string): ContainerRecord {
    return requireContainer(this.#store, text);
  }

  /** All containers, the newest first. */
  containers(): readonly ContainerRecord[] {
    return listContainers(this.#store);
  }

  /** Removes a container. Errors: not_found, failed_precondition when it is mounted; `force` unmounts. */
  async removeContainer(text: string, options: { readonly force?: boolean } = {}): Promise<void> {
    await removeContainer(this.#store, text, options.force ?? false);
  }

  /** Publishes an image of a container's changes on top of its image. The container goes on as it is. */
  async commitContainer(text: string, options: CommitOptions = {}): Promise<ImageRecord> {
    return commitContainer(this.#store, this.#staging, text, options);
  }

  // ---- build cache ---------------------------------------------------------------------------------------------------

  /** What a build step gave, if it is still there; marks the row as used. `publish` writes rows. */
  cacheGet(key: string): BuildCacheRecord | undefined {
    return cacheGet(this.#store, key);
  }

  /** All rows of the build cache, as they are. */
  cacheRows(): readonly (readonly [key: string, row: BuildCacheRecord])[] {
    this.#store.tables.meta.fresh();
    return rowsOf(this.#store.tables.cache);
  }

  // ---- archives ------------------------------------------------------------------------------------------------------

  /** Makes an image of one layer from a root directory, or its tar, plain or compressed. */
  async importRoot(source: ImportSource, options: ImportOptions = {}): Promise<ImageRecord> {
    const { importRoot } = await import("./import-root.ts");
    return importRoot(this.#store, this.#staging, source, options);
  }

  /** Loads the images of a docker-archive, an OCI archive (plain or compressed) or an OCI layout directory. */
  async load(source: LoadSource, options: LoadOptions = {}): Promise<readonly LoadedImage[]> {
    const { loadImages } = await import("./load.ts");
    return loadImages(this.#store, this.#staging, source, options);
  }

  /** Writes images as a docker-archive, an OCI archive or an OCI layout directory. Same images, same bytes. */
  async save(images: readonly string[], target: SaveTarget, options: SaveOptions = {}): Promise<void> {
    const { saveImages } = await import("./save.ts");
    await saveImages(this.#store, images, target, options);
  }

  /** The number of other processes (and other openings in this one) that have the store open. */
  othersAtWork(): number {
    const { paths, holds } = this.#store;
    return readOtherHolds(paths.locks, holds.owner).livingOwners.length;
  }

  /**
   * Removes everything: images, containers, layers, cache. The store is empty then, its directories stay.
   * Errors: failed_precondition when a container is mounted.
   */
  async clear(): Promise<void> {
    const { clearStore } = await import("./clear.ts");
    await clearStore(this.#store);
  }

  /** A new name for a temporary file, which goes with this process. */
  temporaryFile(what: string): string {
    mkdirSync(this.#store.temporaryDirectory, { recursive: true, mode: 0o700 });
    return this.#store.temporaryPath(what);
  }

  // ---- upkeep --------------------------------------------------------------------------------------------------------

  /** Removes what nothing needs. */
  async gc(options: GcOptions = {}): Promise<GcReport> {
    const { collectGarbage } = await import("./gc.ts");
    return collectGarbage(this.#store, options);
  }

  /** Verifies that disk and records agree. */
  async check(options: CheckOptions = {}): Promise<CheckReport> {
    const { checkStore } = await import("./check.ts");
    return checkStore(this.#store, options);
  }

  /** Space on disk, counted as `du` counts. Other file systems mounted below the root are not entered. */
  async usage(): Promise<DiskUsage> {
    const { measureUsage } = await import("./usage.ts");
    return measureUsage(this.#store);
  }

  /** Discards what this process staged and did not publish, and closes the store. */
  async [Symbol.asyncDispose](): Promise<void> {
    await closeStore(this.#store, this.#staging);
  }
}
