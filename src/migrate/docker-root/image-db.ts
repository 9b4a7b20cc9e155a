/**
 * Docker's images and containers by name:
 *
 *     image/<driver>/imagedb/content/sha256/<image ID>           the config, as it is
 *     image/<driver>/imagedb/metadata/sha256/<image ID>/parent   the image that the classic builder made it from
 *     image/<driver>/repositories.json                           {"Repositories":{"app":{"app:1":"sha256:<image ID>"}}}
 *     containers/<container ID>/config.v2.json
 */
import { isLamellaError, LamellaError } from "../../errors/lamella-error.ts";
import type { RootDir } from "../../fs/root-dir.ts";
import { type ImageConfig, parseConfig } from "../../oci/config.ts";
import { type Digest, digestOf, isDigest } from "../../oci/digest.ts";
import { type Json, type JsonObject, parseJson } from "../../oci/json.ts";
import { parseReference } from "../../oci/reference.ts";
import type { DockerProblem } from "./layer-db.ts";
import { namesBeneath, readBeneath } from "./small-file.ts";

export interface DockerImage {
  readonly id: Digest;
  readonly configBytes: Buffer;
  readonly config: ImageConfig;
  /** The image it was built from by the classic builder, here. */
  readonly parent: Digest | undefined;
  /** `name:tag`, as Docker shows them. */
  readonly tags: readonly string[];
}

export interface DockerContainer {
  readonly id: string;
  readonly name: string | undefined;
  readonly image: Digest;
  /** RFC 3339. */
  readonly createdAt: string;
}

export interface ImageDb {
  readonly images: ReadonlyMap<Digest, DockerImage>;
  readonly problems: readonly DockerProblem[];
}

/** A document of Docker's may name thousands of images. */
const limits = { maxBytes: 64 * 1024 * 1024 };

/** Reads the images beneath `base` (`image/<driver>`). */
export function readImageDb(root: RootDir, base: string): ImageDb {
  const images = new Map<Digest, DockerImage>();
  const problems: DockerProblem[] = [];
  const tags = readRepositories(root, base);
  for (const hex of namesBeneath(root, `${base}/imagedb/content/sha256`)) {
    if (!/^[0-9a-f]{64}$/.test(hex)) continue;
    const id = `sha256:${hex}` as Digest;
    try {
      images.set(id, { ...readImage(root, base, id), tags: (tags.get(id) ?? []).sort() });
    } catch (error) {
      if (!(error instanceof LamellaError)) throw error;
      problems.push({ subject: id, message: error.message });
    }
  }
  for (const [id, names] of tags)
    if (!images.has(id) && problems.every(({ subject }) => subject !== id))
      problems.push({ subject: id, message: `${names.join(", ")}: there is no such image` });
  return { images, problems };
}

function readImage(root: RootDir, base: string, id: Digest): Omit<DockerImage, "tags"> {
  const hex = id.slice(7);
  const configBytes = readBeneath(root, `${base}/imagedb/content/sha256/${hex}`) ?? Buffer.alloc(0);
  if (digestOf(configBytes) !== id)
    throw new LamellaError("data_loss", "DIGEST_MISMATCH", `the config of Docker's image ${id} was altered`);
  const parent = readBeneath(root, `${base}/imagedb/metadata/sha256/${hex}/parent`)?.toString("latin1").trim();
  return { id, configBytes, config: parseConfig(configBytes), parent: isDigest(parent) ? parent : undefined };
}

/** Docker's repositories.json as it is: repository → reference → image ID; empty when there is none. */
export function readRepositoriesFile(root: RootDir, base: string): ReadonlyMap<string, ReadonlyMap<string, Digest>> {
  const bytes = readBeneath(root, `${base}/repositories.json`);
  const repositories = new Map<string, Map<string, Digest>>();
  if (bytes === undefined || bytes.length === 0) return repositories;
  const document = objectOf(parseJson(bytes, { ...limits, what: "Docker's repositories.json" }));
  for (const [name, references] of Object.entries(objectOf(document.Repositories ?? {}))) {
    const known = new Map<string, Digest>();
    for (const [reference, id] of Object.entries(objectOf(references))) if (isDigest(id)) known.set(reference, id);
    repositories.set(name, known);
  }
  return repositories;
}

/** Tags by image. References by digest say where an image came from, which the store does not keep. */
function readRepositories(root: RootDir, base: string): Map<Digest, string[]> {
  const tags = new Map<Digest, string[]>();
  for (const references of readRepositoriesFile(root, base).values())
    for (const [reference, id] of references)
      if (isTagReference(reference)) tags.set(id, [...(tags.get(id) ?? []), reference]);
  return tags;
}

function isTagReference(text: string): boolean {
  try {
    const { tag, digest } = parseReference(text);
    return tag !== undefined && digest === undefined;
  } catch (error) {
    if (isLamellaError(error, "invalid_argument")) return false;
    throw error;
  }
}

/** What Docker keeps of a container; undefined when it keeps nothing (a step of a build). Errors: data_loss. */
export function readContainer(root: RootDir, id: string): DockerContainer | undefined {
  const bytes = readBeneath(root, `containers/${id}/config.v2.json`);
  if (bytes === undefined) return undefined;
  const { Name, Image, Created } = objectOf(parseJson(bytes, { ...limits, what: `the config of container ${id}` }));
  if (!isDigest(Image))
    throw new LamellaError("data_loss", "DOCKER_CONTAINER", `Docker's container ${id}: its config names no image`);
  const name = typeof Name === "string" ? Name.replace(/^\//, "") : "";
  const createdAt = typeof Created === "string" && !Number.isNaN(Date.parse(Created)) ? Created : undefined;
  return { id, name: name || undefined, image: Image, createdAt: createdAt ?? new Date(0).toISOString() };
}

function objectOf(value: Json | undefined): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new LamellaError("data_loss", "DOCKER_FILE", "a document of Docker's is not what Docker writes");
}
