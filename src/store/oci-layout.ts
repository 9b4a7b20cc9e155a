/**
 * Reads what an OCI image layout holds (image-spec, image-layout.md), in a directory or an archive. Every blob is looked up
 * by its digest, and size and digest are verified before a document is believed. URLs in descriptors are never followed.
 *
 * Which images: the entries of index.json, those of one name together; of several for one name, or of an index below, the
 * one for the platform. An index may lead to further ones, a few levels deep, never in a circle.
 */
import { arch } from "node:os";
import { LamellaError } from "../errors/lamella-error.ts";
import { checkLayersMatch, parseConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { algorithmOf, type Digest, digestOf } from "../oci/digest.ts";
import { maxDocumentBytes } from "../oci/json.ts";
import { blobPathOf, checkLayoutFile } from "../oci/layout.ts";
import { type Manifest, parseImageDocument, parseImageIndex } from "../oci/manifest.ts";
import { isConfigType, layerKindOf } from "../oci/media-types.ts";
import { formatPlatform, type Platform, platformDistance, platformOfNode } from "../oci/platform.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import { type ArchiveSource, badMember, type FilePart, readPart } from "./archive-source.ts";
import { type ArchivedImage, type ArchivedLayer, familiarName } from "./archived-image.ts";
import { within } from "./docker-archive.ts";
import { digestMismatch, sizeMismatch } from "./verified.ts";

/** Indexes below indexes: buildx makes two levels. */
const maxIndexDepth = 4;
const refNameKey = "org.opencontainers.image.ref.name";
const containerdNameKey = "io.containerd.image.name";

/** The images of a layout. Errors: invalid_argument, data_loss, not_found (no image for the platform); they name the member. */
export function readOciLayout(source: ArchiveSource, wanted: Platform | undefined): ArchivedImage[] {
  const marker = source.find("oci-layout");
  if (marker === undefined) throw badMember(source.what, "oci-layout", "is missing");
  within(source.what, () => checkLayoutFile(readPart(marker, "oci-layout", 4096)));
  const indexPart = source.find("index.json");
  if (indexPart === undefined) throw badMember(source.what, "index.json", "is missing");
  const what = `${source.what}: index.json`;
  const index = within(what, () => parseImageIndex(readPart(indexPart, "index.json", maxDocumentBytes)));

  const groups = new Map<string, Descriptor[]>();
  for (const [i, descriptor] of index.manifests.entries()) {
    const name = nameOf(descriptor) ?? (descriptor.platform === undefined ? `#${i}` : "");
    groups.set(name, [...(groups.get(name) ?? []), descriptor]);
  }
  const layout = new Layout(source, wanted);
  const images = [...groups.values()].flatMap((descriptors) => layout.choose(descriptors, []) ?? []);
  if (images.length === 0) throw new LamellaError("not_found", "NO_IMAGE", `${source.what} holds no image`);
  return images;
}

class Layout {
  readonly #source: ArchiveSource;
  readonly #wanted: Platform | undefined;

  constructor(source: ArchiveSource, wanted: Platform | undefined) {
    this.#source = source;
    this.#wanted = wanted;
  }

  /** The image among descriptors that are alternatives. `path`: the indexes that lead here. */
  choose(descriptors: readonly Descriptor[], path: readonly Digest[]): ArchivedImage | undefined {
    const [only] = descriptors;
    if (descriptors.length === 1 && only !== undefined && this.#wanted === undefined) return this.#image(only, path);
    const host = this.#wanted ?? platformOfNode(arch());
    let best: { readonly descriptor: Descriptor; readonly distance: number } | undefined;
    for (const descriptor of descriptors) {
      const distance = descriptor.platform === undefined ? 1000 : platformDistance(host, descriptor.platform);
      if (distance === undefined || (best !== undefined && best.distance <= distance)) continue;
      best = { descriptor, distance };
    }
    if (best !== undefined) return this.#image(best.descriptor, path);
    const offered = descriptors.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
    throw new LamellaError(
      "not_found",
      "NO_PLATFORM",
      `${this.#source.what} has no image for ${formatPlatform(host)}`,
      { hint: `it has ${offered.join(", ") || "none at all"}; choose one with --platform` },
    );
  }

  #image(descriptor: Descriptor, path: readonly Digest[]): ArchivedImage | undefined {
    const what = `${this.#source.what}: ${blobPathOf(descriptor.digest)}`;
    const bytes = this.#document(descriptor);
    const document = within(what, () => parseImageDocument(bytes, descriptor.mediaType));
    const tags = tagsOf(descriptor);
    if (document.kind === "index") {
      if (path.includes(descriptor.digest) || path.length >= maxIndexDepth) {
        throw new LamellaError(
          "invalid_argument",
          "INDEX_DEPTH",
          `${what}: indexes nested deeper than ${maxIndexDepth}`,
        );
      }
      const image = this.choose(document.index.manifests, [...path, descriptor.digest]);
      return image && { ...image, tags: tags.length > 0 ? tags : image.tags };
    }
    const { manifest } = document;
    if (!isConfigType(manifest.config.mediaType)) {
      throw new LamellaError(
        "unimplemented",
        "NOT_AN_IMAGE",
        `${what}: its config is ${JSON.stringify(manifest.config.mediaType.slice(0, 200))}, not that of an image`,
      );
    }
    const configBytes = this.#document(manifest.config);
    const config = within(`${this.#source.what}: ${blobPathOf(manifest.config.digest)}`, () => {
      const parsed = parseConfig(configBytes);
      checkLayersMatch(parsed, manifest.layers);
      return parsed;
    });
    return { configBytes, config, layers: this.#layers(manifest, config.rootfs.diff_ids), tags };
  }

  #layers(manifest: Manifest, diffIds: readonly ArchivedLayer["diffId"][]): ArchivedLayer[] {
    return manifest.layers.map((descriptor, i) => {
      const what = `${this.#source.what}: ${blobPathOf(descriptor.digest)}`;
      const kind = layerKindOf(descriptor.mediaType);
      if (kind === undefined) {
        throw new LamellaError(
          "unimplemented",
          "LAYER_TYPE",
          `${what}: ${JSON.stringify(descriptor.mediaType.slice(0, 200))} is no file system layer`,
        );
      }
      const part = this.#source.find(blobPathOf(descriptor.digest));
      if (part === undefined && kind.foreign) {
        throw new LamellaError("failed_precondition", "FOREIGN_LAYER", `${what}: a foreign layer, not in the archive`, {
          hint: "its URLs are not followed; save the image with all layers included",
        });
      }
      const diffId = diffIds[i] as ArchivedLayer["diffId"];
      return { diffId, part: checkedSize(part, descriptor, what, this.#source), what, digest: descriptor.digest };
    });
  }

  /** A small blob, verified. */
  #document(descriptor: Descriptor): Buffer {
    const name = blobPathOf(descriptor.digest);
    const what = `${this.#source.what}: ${name}`;
    const part = checkedSize(this.#source.find(name), descriptor, what, this.#source);
    const bytes = readPart(part, what, maxDocumentBytes);
    if (digestOf(bytes, algorithmOf(descriptor.digest)) !== descriptor.digest) {
      throw digestMismatch(what, descriptor.digest);
    }
    return bytes;
  }
}

function checkedSize(
  part: FilePart | undefined,
  descriptor: Descriptor,
  what: string,
  source: ArchiveSource,
): FilePart {
  if (part === undefined) throw badMember(source.what, blobPathOf(descriptor.digest), "is missing");
  if (part.length !== descriptor.size) throw sizeMismatch(what, descriptor.size, part.length);
  return part;
}

function nameOf(descriptor: Descriptor): string | undefined {
  return descriptor.annotations?.[containerdNameKey] ?? descriptor.annotations?.[refNameKey];
}

/** The reference a descriptor's annotations name: containerd's full name, or a ref name that is more than a tag. */
function tagsOf(descriptor: Descriptor): string[] {
  const full = descriptor.annotations?.[containerdNameKey];
  const refName = descriptor.annotations?.[refNameKey];
  const text = full ?? (/[:/]/.test(refName ?? "") ? refName : undefined);
  if (text === undefined) return [];
  try {
    const { digest, ...reference } = parseReference(familiarName(text));
    return digest === undefined ? [formatReference(reference)] : [];
  } catch (error) {
    if (error instanceof LamellaError) return [];
    throw error;
  }
}
