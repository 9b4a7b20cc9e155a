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
  /** ISO 8601. */
  readonly createdAt: string;
}

/** A published image: a config blob and the chain its layers make. Keyed by the digest of the config. */
export interface ImageRecord {
  readonly id: Digest;
  /** Undefined for an image without layers. */
  readonly chainId: ChainId | undefined;
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
  readonly layerId: LayerId;
  readonly createdAt: string;
}

/** A build step whose result is known: a cache key leads to what the step gave. */
export interface BuildCacheRecord {
  /** Chain after the step; undefined when it is still empty. */
  readonly chainId: ChainId | undefined;
  readonly usedAt: string;
}

/** What the disk holds, in bytes of allocated blocks; `totalBytes` equals `du -s` of the root. */
export interface DiskUsage {
  readonly layersBytes: number;
  readonly recordsBytes: number;
  readonly blobsBytes: number;
  readonly metadataBytes: number;
  readonly otherBytes: number;
  readonly totalBytes: number;
}
