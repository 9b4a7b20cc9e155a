/** Reads what a `docker save` archive holds (moby's image/tarexport; also skopeo's and podman's docker-archive). */
import { LamellaError } from "../errors/lamella-error.ts";
import { checkLayersMatch, parseConfig } from "../oci/config.ts";
import { type Digest, digestOf, parseDigest } from "../oci/digest.ts";
import { maxDocumentBytes } from "../oci/json.ts";
import { parseDockerArchiveManifest } from "../oci/layout.ts";
import { type ArchiveSource, badMember, type FilePart, readPart } from "./archive-source.ts";
import { type ArchivedImage, type ArchivedLayer, familiarName } from "./archived-image.ts";
import { digestMismatch } from "./verified.ts";

/** The images of an archive with a manifest.json. Errors: invalid_argument, data_loss; they name the member. */
export function readDockerArchive(source: ArchiveSource): ArchivedImage[] {
  const manifest = required(source, "manifest.json");
  const items = parseDockerArchiveManifest(readPart(manifest, `${source.what}: manifest.json`, maxDocumentBytes));
  return items.map((item) => {
    const what = `${source.what}: ${item.config}`;
    const bytes = readPart(required(source, item.config), what, maxDocumentBytes);
    const digest = digestInName(item.config);
    if (digest !== undefined && digestOf(bytes) !== digest) throw digestMismatch(what, digest);
    const config = within(what, () => {
      const parsed = parseConfig(bytes);
      checkLayersMatch(parsed, item.layers);
      return parsed;
    });
    const layers = item.layers.map((path, i): ArchivedLayer => {
      const part = required(source, path);
      // A member named blobs/sha256/<hex> says what it holds.
      const blob = path.startsWith("blobs/") ? digestInName(path) : undefined;
      const diffId = config.rootfs.diff_ids[i] as ArchivedLayer["diffId"];
      return { diffId, part, what: `${source.what}: ${path}`, digest: blob };
    });
    return { configBytes: bytes, config, layers, tags: item.repoTags.map(familiarName) };
  });
}

function required(source: ArchiveSource, name: string): FilePart {
  const part = source.find(name);
  if (part === undefined) throw badMember(source.what, name, "is not in the archive");
  return part;
}

/** `<hex>.json`, `blobs/sha256/<hex>`: what the content's digest must be. */
function digestInName(path: string): Digest | undefined {
  const hex = /^(?:([0-9a-f]{64})\.json|blobs\/sha256\/([0-9a-f]{64}))$/.exec(path);
  return hex === null ? undefined : parseDigest(`sha256:${hex[1] ?? hex[2]}`);
}

/** Runs `read`, naming the member in its errors. */
export function within<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof LamellaError)) throw error;
    throw new LamellaError(error.kind, error.code, `${what}: ${error.message}`, { hint: error.hint, cause: error });
  }
}
