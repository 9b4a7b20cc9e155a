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
 */

import type { LayerTarInput } from "../diff/apply-layer.ts";
import type { ExportedLayer } from "../diff/export-layer.ts";
import type { Driver, LayerId } from "../drivers/driver.ts";
import type { ImageConfig } from "../oci/config.ts";
import type { ChainId, DiffId, Digest } from "../oci/digest.ts";
import type { ImportOptions, ImportSource } from "./import-root.ts";
import type { LoadedImage, LoadOptions, LoadSource } from "./load.ts";
import type { SaveOptions, SaveTarget } from "./save.ts";
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

export interface StoreOptions {
  /** Directory of the store; made when it is not there. */
  readonly root: string;
  /** Driver name; default: the one the root was last used with, else the best one the host can run. */
  readonly driver?: string | undefined;
  readonly driverOptions?: Readonly<Record<string, string>> | undefined;
  /** False: nothing is flushed, for throw-away stores. Default true. */
  readonly durable?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A writable layer of the driver that nobody else sees. Mount it with `store.driver.mount(layerId)`. */
export interface ActiveLayer {
  readonly layerId: LayerId;
  /** Number of layers from the base to this one, this one included. */
  readonly depth: number;
}

/** What is known of a layer once its tar has been read or made. */
export interface LayerDigest {
  readonly diffId: DiffId;
  readonly chainId: ChainId;
  readonly tarSizeBytes: number;
  /** What the diff held, for a layer that `sealLayer` made. */
  readonly exported: ExportedLayer | undefined;
}

/** A finished layer that is not published yet. It may be a parent at once, before `done`. */
export interface StagedLayer {
  readonly layerId: LayerId;
  readonly depth: number;
  /** Settles when the digest is known; a failure need not be awaited anywhere else than in `publish`. */
  readonly done: Promise<LayerDigest>;
}

export interface UnpackOptions {
  readonly parent?: StagedLayer | LayerRecord | undefined;
  /** The diff ID the tar must have. When it and the parent's chain are known, a layer that exists is not unpacked again. */
  readonly expectedDiffId?: DiffId | undefined;
  /** The uncompressed tar; as a function, called only when the layer must be unpacked. */
  readonly tar: LayerTarInput | (() => LayerTarInput);
  /** What the tar is, for error messages: a member of an archive, a blob. */
  readonly what?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of tar bytes read so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

export interface PublishRequest {
  /** Parents may be published before, or be in the list too, in any order. */
  readonly layers?: readonly StagedLayer[] | undefined;
  readonly image?:
    | { readonly config: Uint8Array; readonly chainId: ChainId | undefined; readonly tags?: readonly string[] }
    | undefined;
  readonly cache?: readonly { readonly key: string; readonly chainId: ChainId | undefined }[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ImageListing extends ImageRecord {
  /** `name:tag`, sorted. */
  readonly tags: readonly string[];
}

export interface CommitOptions {
  readonly tags?: readonly string[];
  /** Makes the new image's config of the container's image's; the new layer and its history entry are in it already. */
  readonly edit?: (config: ImageConfig) => ImageConfig;
  readonly author?: string | undefined;
  readonly comment?: string | undefined;
  /** RFC 3339; default now. */
  readonly createdAt?: string | undefined;
  /** Latest modification time in the layer, seconds since 1970. */
  readonly clampMtimeSec?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface GcOptions {
  /** Cache rows last used longer ago than this go; default 7 days, 0 drops all. */
  readonly cacheMaxAgeMs?: number | undefined;
  /** Also remove images that have no tag and no container. Default false. */
  readonly untaggedImages?: boolean | undefined;
}

export interface CheckOptions {
  /** Also give every layer's tar again and compare its diff ID: reads all data. */
  readonly deep?: boolean | undefined;
  /** Delete orphans, drop records of what is lost. */
  readonly repair?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const soon = (): never => {
  throw new Error("arrives with the next commit");
};

export class Store implements AsyncDisposable {
  /** Opens (or makes) a store and reclaims what crashed processes left. Errors: those of the driver. */
  static async open(_options: StoreOptions): Promise<Store> {
    return soon();
  }

  /** Absolute path of the store. */
  readonly root: string = soon();
  readonly driver: Driver = soon();

  // ---- layers --------------------------------------------------------------------------------------------------------

  /** The published layer of that chain ID. */
  layer(_chainId: ChainId): LayerRecord | undefined {
    return soon();
  }

  /** The layers of a chain, the base first; empty for undefined. Errors: not_found, data_loss when one below is missing. */
  layersOf(_chainId: ChainId | undefined): readonly LayerRecord[] {
    return soon();
  }

  /** Keeps a published layer (and all below it) from being removed until disposed. Errors: not_found. */
  hold(_chainId: ChainId): Disposable {
    return soon();
  }

  /**
   * Unpacks a layer tar on top of `parent`. Comes back when the layer exists in the driver and may be a parent; the tar is
   * read behind it. With `expectedDiffId`, a layer that is published already, or that another process is unpacking now, is
   * waited for and used instead. Errors (through `done`): data_loss (DIFF_ID_MISMATCH), invalid_argument for a bad tar.
   */
  async unpackLayer(_options: UnpackOptions): Promise<StagedLayer> {
    return soon();
  }

  /** Makes a writable layer. Errors: not_found when the parent is gone, failed_precondition (DEPTH) beyond the driver's depth. */
  async beginLayer(
    _parent: StagedLayer | LayerRecord | undefined,
    _options?: { readonly sizeBytes?: number },
  ): Promise<ActiveLayer> {
    return soon();
  }

  /** Ends writing to a layer (unmounted by now). Returns at once: computing the diff, its tar record and digest run behind. */
  sealLayer(
    _active: ActiveLayer,
    _options?: { readonly clampMtimeSec?: number | undefined; readonly signal?: AbortSignal | undefined },
  ): StagedLayer {
    return soon();
  }

  /** Removes a layer that was not published, unmounting it if need be. Layers on top of it must be discarded before. Idempotent. */
  async discardLayer(_layer: ActiveLayer | StagedLayer): Promise<void> {
    return soon();
  }

  /**
   * Waits for the layers' digests, makes all data durable (one syncfs), and publishes layers, image, tags and cache rows in
   * one transaction. When it fails the layers are still staged: publish again or discard them.
   * Errors: those of the layers; invalid_argument (DIFF_IDS) when the config does not list the chain's layers; aborted when
   * a layer the image needs has been removed meanwhile.
   */
  async publish(_request: PublishRequest): Promise<ImageRecord | undefined> {
    return soon();
  }

  /** The exact tar of a published layer; the stream fails with data_loss when the bytes no longer give the diff ID. */
  readLayer(_chainId: ChainId, _options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<Uint8Array> {
    return soon();
  }

  // ---- images --------------------------------------------------------------------------------------------------------

  /**
   * The image of a reference (`name` means `name:latest`), an ID, or a unique prefix of an ID. Errors: not_found with the
   * nearest names as hint, invalid_argument (AMBIGUOUS_ID).
   */
  image(_text: string): ImageRecord {
    return soon();
  }

  /** The same, but undefined for what is not there. */
  findImage(_text: string): ImageRecord | undefined {
    return soon();
  }

  /** All images, the newest first. */
  images(): readonly ImageListing[] {
    return soon();
  }

  /** Tags of an image, sorted. */
  tagsOf(_id: Digest): readonly string[] {
    return soon();
  }

  /** An image's config, its digest verified. Errors: not_found, data_loss. */
  async config(_id: Digest): Promise<{ readonly bytes: Buffer; readonly config: ImageConfig }> {
    return soon();
  }

  /** Gives an image another name; a tag that exists moves. Returns it in full (`name:tag`). */
  tag(_image: string, _tag: string): string {
    return soon();
  }

  /** Takes a tag away; the image stays. Errors: not_found. */
  untag(_tag: string): void {
    return soon();
  }

  /**
   * As `docker rmi`: by a tag, takes that tag away, and removes the image with its last tag; by ID, removes the image with
   * its only tag. Errors: failed_precondition (IMAGE_IN_USE) when a container stands on it, (IMAGE_TAGGED) when by ID and it
   * has several tags; `force` goes ahead in both cases.
   */
  async removeImage(_text: string, _options?: { readonly force?: boolean }): Promise<readonly RemovedItem[]> {
    return soon();
  }

  // ---- containers ----------------------------------------------------------------------------------------------------

  /** Makes a container. Errors: not_found, already_exists for the name, invalid_argument for a bad name. */
  async createContainer(_options: {
    readonly image: string;
    readonly name?: string | undefined;
    readonly sizeBytes?: number | undefined;
    /** False: do not wait for the disk, for a container that ends with this process. Default: as the store. */
    readonly durable?: boolean;
  }): Promise<ContainerRecord> {
    return soon();
  }

  /** The container of a name, an ID, or a unique prefix of an ID. Errors: not_found, invalid_argument (AMBIGUOUS_ID). */
  container(_text: string): ContainerRecord {
    return soon();
  }

  /** All containers, the newest first. */
  containers(): readonly ContainerRecord[] {
    return soon();
  }

  /** Removes a container. Errors: not_found, failed_precondition when it is mounted; `force` unmounts. */
  async removeContainer(_text: string, _options?: { readonly force?: boolean }): Promise<void> {
    return soon();
  }

  /** Publishes an image of a container's changes on top of its image. The container goes on as it is. */
  async commitContainer(_text: string, _options?: CommitOptions): Promise<ImageRecord> {
    return soon();
  }

  // ---- build cache ---------------------------------------------------------------------------------------------------

  /** What a build step gave, if it is still there; marks the row as used. `publish` writes rows. */
  cacheGet(_key: string): BuildCacheRecord | undefined {
    return soon();
  }

  // ---- archives ------------------------------------------------------------------------------------------------------

  /** Makes an image of one layer from a root directory, or its tar, plain or compressed. */
  async importRoot(_source: ImportSource, _options?: ImportOptions): Promise<ImageRecord> {
    return soon();
  }

  /** Loads the images of a docker-archive, an OCI archive (plain or compressed) or an OCI layout directory. */
  async load(_source: LoadSource, _options?: LoadOptions): Promise<readonly LoadedImage[]> {
    return soon();
  }

  /** Writes images as a docker-archive, an OCI archive or an OCI layout directory. Same images, same bytes. */
  async save(_images: readonly string[], _target: SaveTarget, _options?: SaveOptions): Promise<void> {
    return soon();
  }

  // ---- upkeep --------------------------------------------------------------------------------------------------------

  /** Removes what nothing needs. */
  async gc(_options?: GcOptions): Promise<GcReport> {
    return soon();
  }

  /** Verifies that disk and records agree. */
  async check(_options?: CheckOptions): Promise<CheckReport> {
    return soon();
  }

  /** Space on disk, counted as `du` counts. Other file systems mounted below the root are not entered. */
  async usage(): Promise<DiskUsage> {
    return soon();
  }

  /** Discards what this process staged and did not publish, and closes the store. */
  async [Symbol.asyncDispose](): Promise<void> {
    return soon();
  }
}
