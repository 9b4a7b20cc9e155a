/** What callers pass to the store and hold of it: options, layers in the making, requests. Methods of Store explain them. */
import type { ContentDonor } from "../diff/apply-donor.ts";
import type { LayerTarInput } from "../diff/apply-layer.ts";
import type { ExportedLayer } from "../diff/export-layer.ts";
import type { LayerId } from "../drivers/driver.ts";
import type { ImageConfig } from "../oci/config.ts";
import type { ChainId, DiffId } from "../oci/digest.ts";
import type { ImageRecord, LayerRecord } from "./types.ts";

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
  /** Bytes of files that share their data with those of the donor that `unpackLayer` was given. */
  readonly sharedBytes?: number;
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
  /** The same layer's tree elsewhere on the file system, to share data with. Its bytes are compared, not trusted. */
  readonly donor?: ContentDonor | undefined;
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
  readonly cache?:
    | readonly {
        readonly key: string;
        readonly chainId: ChainId | undefined;
        /** When the step was carried out, RFC 3339: a later build that uses the row writes it into its history. */
        readonly createdAt?: string | undefined;
      }[]
    | undefined;
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
