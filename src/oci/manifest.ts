/**
 * Image manifests and indexes: OCI's and Docker's schema 2, which differ in their media types only. A document is read
 * as what its media type says, and refused when it also carries the members of the other kind (CVE-2021-41190: two
 * readers of one digest must not see two images). Digests are of the bytes as received: keep them beside the parse.
 */
import { type Descriptor, descriptorOfFields } from "./descriptor.ts";
import { defined, type Fields, fieldsOf, invalidDocument, type StringMap } from "./fields.ts";
import { type Encodable, encodeJson, parseJson, sortedMap } from "./json.ts";
import { isIndexType, isManifestType, mediaTypes } from "./media-types.ts";

export interface Manifest {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  /** Bottom layer first. */
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: StringMap;
}

export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: StringMap;
}

/** A manifest or an index, whichever the bytes hold. */
export type ImageDocument =
  | { readonly kind: "manifest"; readonly manifest: Manifest }
  | { readonly kind: "index"; readonly index: ImageIndex };

/** More layers or manifests than this are refused. The kernel stacks 500; registries cap documents at 4 MiB. */
const maxItems = 10_000;

const members = [
  "schemaVersion",
  "mediaType",
  "artifactType",
  "config",
  "layers",
  "manifests",
  "subject",
  "annotations",
  "fsLayers",
];

/**
 * Reads a manifest or an index. `mediaType`, when given, is what the descriptor or the transport said; the document must
 * agree. Throws `invalid_argument` for whatever is malformed, ambiguous or of another kind.
 */
export function parseImageDocument(bytes: Uint8Array, mediaType?: string): ImageDocument {
  const fields = fieldsOf(parseJson(bytes, { what: "manifest" }), "manifest");
  fields.refuseCaseVariants(members);
  if (fields.has("fsLayers") || fields.integer("schemaVersion") === 1) {
    throw invalidDocument("manifest", "Docker schema 1 is not supported", "push the image again with a newer client");
  }
  if (fields.integer("schemaVersion") !== 2) throw invalidDocument("manifest.schemaVersion", "expected 2");

  const isIndex = fields.has("manifests");
  if (isIndex && (fields.has("layers") || fields.has("config"))) {
    throw invalidDocument("manifest", "both a manifest and an index");
  }
  const embedded = fields.string("mediaType");
  if (mediaType !== undefined && embedded !== undefined && embedded !== mediaType) {
    throw invalidDocument("manifest.mediaType", `is ${shown(embedded)}, but was announced as ${shown(mediaType)}`);
  }
  const type = embedded ?? mediaType;
  if (type !== undefined && !(isIndex ? isIndexType(type) : isManifestType(type))) {
    throw invalidDocument("manifest", `holds ${isIndex ? "an index" : "a manifest"}, but its type is ${shown(type)}`);
  }
  return isIndex
    ? { kind: "index", index: indexOfFields(fields) }
    : { kind: "manifest", manifest: manifestOfFields(fields) };
}

/** Reads an image manifest; throws `invalid_argument`, also when the document is an index. */
export function parseManifest(bytes: Uint8Array, mediaType?: string): Manifest {
  const document = parseImageDocument(bytes, mediaType);
  if (document.kind === "manifest") return document.manifest;
  throw invalidDocument("manifest", "is an index", "choose one of its manifests by platform");
}

/** Reads an image index; throws `invalid_argument`, also when the document is a manifest. */
export function parseImageIndex(bytes: Uint8Array, mediaType?: string): ImageIndex {
  const document = parseImageDocument(bytes, mediaType);
  if (document.kind === "index") return document.index;
  throw invalidDocument("index", "is a manifest");
}

/** The manifest's bytes, members in the spec's order. */
export function encodeManifest(manifest: Manifest): Buffer {
  const { schemaVersion, mediaType, artifactType, config, layers, subject, annotations } = manifest;
  return encodeJson({
    schemaVersion,
    mediaType,
    artifactType,
    config: orderedDescriptor(config),
    layers: layers.map(orderedDescriptor),
    subject: subject && orderedDescriptor(subject),
    annotations: annotations && sortedMap(annotations),
  });
}

/** The index's bytes, members in the spec's order. */
export function encodeImageIndex(index: ImageIndex): Buffer {
  const { schemaVersion, mediaType, artifactType, manifests, subject, annotations } = index;
  return encodeJson({
    schemaVersion,
    mediaType,
    artifactType,
    manifests: manifests.map(orderedDescriptor),
    subject: subject && orderedDescriptor(subject),
    annotations: annotations && sortedMap(annotations),
  });
}

/** A manifest for `config` and `layers`, with the media type of its kind. */
export function manifestOf(kind: "oci" | "docker", config: Descriptor, layers: readonly Descriptor[]): Manifest {
  const mediaType = kind === "oci" ? mediaTypes.ociManifest : mediaTypes.dockerManifest;
  return { schemaVersion: 2, mediaType, config, layers };
}

function manifestOfFields(fields: Fields): Manifest {
  return defined({
    schemaVersion: 2 as const,
    mediaType: fields.string("mediaType"),
    artifactType: fields.string("artifactType"),
    config: descriptorOfFields(fields.requiredFields("config")),
    layers: descriptors(fields, "layers"),
    subject: subjectOf(fields),
    annotations: fields.stringMap("annotations"),
  });
}

function indexOfFields(fields: Fields): ImageIndex {
  return defined({
    schemaVersion: 2 as const,
    mediaType: fields.string("mediaType"),
    artifactType: fields.string("artifactType"),
    manifests: descriptors(fields, "manifests"),
    subject: subjectOf(fields),
    annotations: fields.stringMap("annotations"),
  });
}

function descriptors(fields: Fields, key: string): Descriptor[] {
  const list = fields.requiredList(key);
  if (list.length > maxItems) throw invalidDocument(`${fields.path}.${key}`, `more than ${maxItems} items`);
  return list.map(descriptorOfFields);
}

function subjectOf(fields: Fields): Descriptor | undefined {
  const subject = fields.fields("subject");
  return subject && descriptorOfFields(subject);
}

function orderedDescriptor(descriptor: Descriptor): Encodable {
  const { mediaType, digest, size, urls, annotations, data, artifactType, platform } = descriptor;
  return {
    mediaType,
    digest,
    size,
    urls,
    annotations: annotations && sortedMap(annotations),
    data,
    platform: platform && {
      architecture: platform.architecture,
      os: platform.os,
      "os.version": platform["os.version"],
      "os.features": platform["os.features"],
      variant: platform.variant,
    },
    artifactType,
  };
}

function shown(mediaType: string): string {
  return JSON.stringify(mediaType.slice(0, 200));
}
