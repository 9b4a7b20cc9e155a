/** Media types of the OCI image spec (media-types.md) and of Docker's image manifest version 2, schema 2. */

export const mediaTypes = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociEmpty: "application/vnd.oci.empty.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  ociLayerGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociLayerZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  ociForeignLayer: "application/vnd.oci.image.layer.nondistributable.v1.tar",
  ociForeignLayerGzip: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  ociForeignLayerZstd: "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerManifestList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar",
  dockerLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  dockerLayerZstd: "application/vnd.docker.image.rootfs.diff.tar.zstd",
  dockerForeignLayer: "application/vnd.docker.image.rootfs.foreign.diff.tar",
  dockerForeignLayerGzip: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
} as const;

export type LayerCompression = "none" | "gzip" | "zstd";

export interface LayerKind {
  readonly compression: LayerCompression;
  /** "Non-distributable": the bytes may have to come from the descriptor's `urls`, which Lamella never follows. */
  readonly foreign: boolean;
}

const layerKinds: ReadonlyMap<string, LayerKind> = new Map([
  [mediaTypes.ociLayer, { compression: "none", foreign: false }],
  [mediaTypes.ociLayerGzip, { compression: "gzip", foreign: false }],
  [mediaTypes.ociLayerZstd, { compression: "zstd", foreign: false }],
  [mediaTypes.ociForeignLayer, { compression: "none", foreign: true }],
  [mediaTypes.ociForeignLayerGzip, { compression: "gzip", foreign: true }],
  [mediaTypes.ociForeignLayerZstd, { compression: "zstd", foreign: true }],
  [mediaTypes.dockerLayer, { compression: "none", foreign: false }],
  [mediaTypes.dockerLayerGzip, { compression: "gzip", foreign: false }],
  [mediaTypes.dockerLayerZstd, { compression: "zstd", foreign: false }],
  [mediaTypes.dockerForeignLayer, { compression: "none", foreign: true }],
  [mediaTypes.dockerForeignLayerGzip, { compression: "gzip", foreign: true }],
]);

/** How a layer of this media type is stored; undefined when it is no file system layer. */
export function layerKindOf(mediaType: string): LayerKind | undefined {
  return layerKinds.get(mediaType);
}

/** True for an OCI image manifest or a Docker schema 2 manifest. */
export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest;
}

/** True for an OCI image index or a Docker manifest list. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerManifestList;
}

/** True for an image config, OCI's or Docker's. */
export function isConfigType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociConfig || mediaType === mediaTypes.dockerConfig;
}
