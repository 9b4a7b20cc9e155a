/** The small documents that frame a set of blobs: OCI's `oci-layout` file and Docker's archive `manifest.json`. */
import { LamellaError } from "../errors/lamella-error.ts";
import { fieldsOf, invalidDocument, itemsOf } from "./fields.ts";
import { encodeJson, parseJson } from "./json.ts";
import { parseReference } from "./reference.ts";

/** The only version of the OCI image layout there is (image-layout.md). */
export const imageLayoutVersion = "1.0.0";

/** The bytes of an `oci-layout` file. */
export function encodeLayoutFile(): Buffer {
  return encodeJson({ imageLayoutVersion });
}

/** Checks an `oci-layout` file; throws `invalid_argument` when it is not one, `unimplemented` for another version. */
export function checkLayoutFile(bytes: Uint8Array): void {
  const fields = fieldsOf(parseJson(bytes, { maxBytes: 4096, what: "oci-layout" }), "oci-layout");
  const version = fields.requiredString("imageLayoutVersion");
  if (version === imageLayoutVersion) return;
  throw new LamellaError(
    "unimplemented",
    "LAYOUT_VERSION",
    `oci-layout: version ${JSON.stringify(version.slice(0, 100))}, this reads ${imageLayoutVersion}`,
  );
}

/** Path of a blob inside an OCI layout, and inside Docker's archives since version 25. */
export function blobPathOf(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

/** One image of a `docker save` archive: paths are members of the archive. */
export interface DockerArchiveItem {
  readonly config: string;
  readonly repoTags: readonly string[];
  /** Bottom layer first. */
  readonly layers: readonly string[];
}

/**
 * Reads a `manifest.json`; throws `invalid_argument`, also for tags that are no references and for paths that are
 * absolute or climb: a member's path is looked up in the archive, never in the file system.
 */
export function parseDockerArchiveManifest(bytes: Uint8Array): DockerArchiveItem[] {
  const items = itemsOf(parseJson(bytes, { what: "manifest.json" }), "manifest.json");
  if (items.length === 0) throw invalidDocument("manifest.json", "names no image");
  return items.map((item, i) => {
    const fields = fieldsOf(item, `manifest.json[${i}]`);
    const repoTags = fields.strings("RepoTags") ?? [];
    for (const tag of repoTags) parseReference(tag);
    return {
      config: memberPath(fields.requiredString("Config"), `${fields.path}.Config`),
      repoTags,
      layers: (fields.strings("Layers") ?? []).map((path, n) => memberPath(path, `${fields.path}.Layers[${n}]`)),
    };
  });
}

/** The bytes of a `manifest.json`. */
export function encodeDockerArchiveManifest(items: readonly DockerArchiveItem[]): Buffer {
  return encodeJson(
    items.map((item) => ({
      Config: item.config,
      RepoTags: item.repoTags.length === 0 ? null : item.repoTags,
      Layers: item.layers,
    })),
  );
}

function memberPath(path: string, where: string): string {
  const clean = path.replace(/^\.\//, "");
  if (clean === "" || clean.includes("\0") || clean.split("/").some((part) => part === "" || /^\.\.?$/.test(part))) {
    throw invalidDocument(where, `${JSON.stringify(path.slice(0, 200))} is no path inside the archive`);
  }
  return clean;
}
