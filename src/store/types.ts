/** The records of the store: what LMDB holds, and what the store's methods answer with. All of it is plain data. */
import type { LayerId } from "../drivers/driver.ts";
import type { ChainId, DiffId, Digest } from "../oci/digest.ts";

/** A published layer: data durable, digest known. Keyed by chain ID, so images share it. */
export interface LayerRecord {
  readonly chainId: ChainId;
  readonly diffId: DiffId;
  readonly parent: ChainId | undefined;
  /** The driver's name for it. */
  readonly layerId: LayerId;
  /** Length of the uncompressed layer tar. */
  readonly tarSizeBytes: number;
  /** Number of layers from the base to this one, this one included. */
  readonly depth: number;
  /** ISO 8601: when it was published here. */
  readonly createdAt: string;
}

/** A published image: a config blob and the chain its layers make. Keyed by the digest of the config. */
export interface ImageRecord {
  readonly id: Digest;
  /** Undefined for an image without layers. */
  readonly chainId: ChainId | undefined;
  /** RFC 3339: the config's `created`, or when it was published where the config says nothing. */
  readonly createdAt: string;
  /** Sum of the tar sizes of its layers, in bytes. */
  readonly sizeBytes: number;
}

/** A writable layer on top of an image, which `create` made and `rm` ends. */
export interface ContainerRecord {
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly name: string | undefined;
  readonly image: Digest;
  /** The chain the layer stands on; it outlives a forced removal of the image. Undefined: an image without layers. */
  readonly chainId: ChainId | undefined;
  readonly layerId: LayerId;
  readonly createdAt: string;
}

/** A build step whose result is known: a cache key leads to what the step gave. */
export interface BuildCacheRecord {
  /** Chain after the step; undefined when it is still empty. */
  readonly chainId: ChainId | undefined;
  readonly usedAt: string;
  /** When the step was carried out, RFC 3339, where its builder said so. */
  readonly createdAt?: string;
}

/** What the disk holds, in bytes of allocated blocks; `totalBytes` equals `du -s -B1` of the root. */
export interface DiskUsage {
  readonly layersBytes: number;
  readonly recordsBytes: number;
  readonly blobsBytes: number;
  readonly metadataBytes: number;
  readonly otherBytes: number;
  readonly totalBytes: number;
}

/** What `removeImage` did, in order. */
export type RemovedItem =
  | { readonly kind: "untagged"; readonly tag: string }
  | { readonly kind: "deleted_image"; readonly id: Digest }
  | { readonly kind: "deleted_layer"; readonly chainId: ChainId };

/** What `gc` removed. */
export interface GcReport {
  readonly images: number;
  readonly layers: number;
  readonly blobs: number;
  readonly cacheRows: number;
  /** Things that no record named: what a crash left. */
  readonly orphans: number;
}

/** One thing `check` found wrong. */
export interface CheckFinding {
  /**
   * `lost_layer`: a record's layer is missing in the driver. `lost_record`: a layer's tar record is missing. `bad_layer`: it
   * no longer gives its diff ID. `broken_chain`: a layer, image, container or cache row stands on a layer without a record.
   * `lost_blob`, `bad_blob`: an image's config is missing or altered. `orphan_*`: on disk, but nothing refers to it.
   */
  readonly kind:
    | "lost_layer"
    | "lost_record"
    | "bad_layer"
    | "broken_chain"
    | "lost_blob"
    | "bad_blob"
    | "orphan_layer"
    | "orphan_record"
    | "orphan_spill"
    | "orphan_blob"
    | "orphan_temporary";
  /** The chain ID, image ID, container ID, layer ID or path it is about. */
  readonly subject: string;
  readonly message: string;
  /** True when `repair` was asked for and mended it: an orphan is deleted, a record of what is lost is dropped. */
  readonly repaired: boolean;
}

export interface CheckReport {
  readonly findings: readonly CheckFinding[];
  readonly layers: number;
  readonly images: number;
  readonly blobs: number;
}
