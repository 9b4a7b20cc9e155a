/**
 * Loads images from archives and layouts. An uncompressed archive in a file is read in place; a compressed one, or a stream,
 * is decompressed into a temporary file first, as its members must be found in any order.
 *
 * Images of one archive are loaded one after the other, each published whole. The layers of one unpack beside each other
 * where the driver can stack what is not complete yet.
 */
import { statSync } from "node:fs";
import type { LayerTarInput } from "../diff/apply-layer.ts";
import { isLamellaError, LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { chainIdsOf, type Digest, digestOf } from "../oci/digest.ts";
import type { Platform } from "../oci/platform.ts";
import * as C from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { detectCompression, detectionBytes } from "../tar/index.ts";
import { type ArchiveSource, DirectorySource, streamPart, TarFileSource } from "./archive-source.ts";
import type { ArchivedImage, ArchivedLayer } from "./archived-image.ts";
import type { StoreContext } from "./context.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { readOciLayout } from "./oci-layout.ts";
import { fullTag, publish } from "./publish.ts";
import type { StagedLayer } from "./requests.ts";
import type { Staging } from "./staging.ts";
import { openInput, plainBytes, spool, streamInput } from "./tar-input.ts";
import { digestMismatch, verified } from "./verified.ts";

/** A file (plain or compressed), a stream of one, or the directory of an OCI layout. */
export type LoadSource = { readonly path: string } | { readonly stream: AsyncIterable<Uint8Array> };

export interface LoadProgress {
  /** Digest of the layer. */
  readonly diffId: string;
  readonly event: "started" | "bytes" | "done" | "exists";
  /** Tar bytes read so far. */
  readonly bytes: number;
  /** Known for layers that are stored uncompressed. */
  readonly totalBytes: number | undefined;
}

export interface LoadOptions {
  /** Which image of a multi-platform index; default the host's platform. */
  readonly platform?: Platform | undefined;
  /** Tags to use in place of those in the archive; only for an archive of one image. */
  readonly tags?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

export interface LoadedImage {
  readonly id: Digest;
  readonly tags: readonly string[];
}

/** The most layers that unpack at once. More would not be faster, and each costs two threads. */
const layersAtOnce = 3;

/** See `Store.load`. */
export async function loadImages(
  store: StoreContext,
  staging: Staging,
  source: LoadSource,
  options: LoadOptions,
): Promise<LoadedImage[]> {
  using archive = await openArchive(store, source, options.signal);
  const isDocker = archive.find("manifest.json") !== undefined;
  if (!isDocker && archive.find("oci-layout") === undefined && archive.find("index.json") === undefined) {
    throw new LamellaError(
      "invalid_argument",
      "NOT_AN_ARCHIVE",
      `${archive.what} is no image archive: it has neither manifest.json nor index.json`,
      { hint: "a tar of a root file system is brought in with `lamella import`" },
    );
  }
  const images = isDocker ? readDockerArchive(archive) : readOciLayout(archive, options.platform);
  if (options.tags !== undefined && images.length > 1) {
    throw new LamellaError("invalid_argument", "SEVERAL_IMAGES", `${archive.what} holds ${images.length} images`, {
      hint: "load it without naming tags, then `lamella tag`",
    });
  }
  for (const { layers } of images) store.checkDepth(layers.length);
  const loaded: LoadedImage[] = [];
  for (const image of images) {
    const tags = (options.tags ?? image.tags).map(fullTag);
    loaded.push(await loadImage(store, staging, { ...image, tags }, options));
  }
  return loaded;
}

async function openArchive(
  store: StoreContext,
  source: LoadSource,
  signal: AbortSignal | undefined,
): Promise<ArchiveSource> {
  if ("stream" in source) return new TarFileSource("the archive", await spool(store, source.stream, signal));
  const { path } = source;
  if (isDirectory(path)) return new DirectorySource(path);
  const input = openInput(path);
  if (input.seekable?.compression === "none") return new TarFileSource(path, input.file);
  using _input = input;
  return new TarFileSource(path, await spool(store, streamInput(input), signal));
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    if (!hasCode(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new LamellaError("not_found", "NO_SUCH_FILE", `${path}: no such file or directory`, { cause });
  }
}

async function loadImage(
  store: StoreContext,
  staging: Staging,
  image: ArchivedImage,
  options: LoadOptions,
): Promise<LoadedImage> {
  // The first layer that fails stops the others.
  const failed = new AbortController();
  const signal = options.signal === undefined ? failed.signal : AbortSignal.any([failed.signal, options.signal]);
  const staged: StagedLayer[] = [];
  try {
    for (const layer of image.layers) {
      await staged.at(-layersAtOnce)?.done;
      const next = await staging.unpack({
        parent: staged.at(-1),
        expectedDiffId: layer.diffId,
        what: layer.what,
        signal,
        ...progressOf(layer, options),
        tar: () => tarOf(layer, signal),
      });
      staged.push(next);
      next.done.then(
        ({ tarSizeBytes }) => tell(options, layer, "done", tarSizeBytes),
        () => failed.abort(),
      );
    }
    await settle(staged);
    const chainId = chainIdsOf(image.config.rootfs.diff_ids).at(-1);
    const request = { config: image.configBytes, chainId, tags: image.tags };
    await publish(store, staging, { layers: staged, image: request });
    return { id: digestOf(image.configBytes), tags: image.tags };
  } catch (error) {
    failed.abort();
    const cause = await firstFailure(staged, error);
    for (const layer of staged.toReversed()) await staging.discard(layer);
    throw cause;
  }
}

async function settle(staged: readonly StagedLayer[]): Promise<void> {
  const results = await Promise.allSettled(staged.map(({ done }) => done));
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (reasons.length > 0) throw reasons.find((reason) => !isLamellaError(reason, "canceled")) ?? reasons[0];
}

/** What made the load fail, where `error` may be no more than a consequence: one layer's failure cancels the others. */
async function firstFailure(staged: readonly StagedLayer[], error: unknown): Promise<unknown> {
  if (!isLamellaError(error, "canceled")) return error;
  try {
    await settle(staged);
  } catch (first) {
    return first;
  }
  return error;
}

function progressOf(layer: ArchivedLayer, options: LoadOptions): { readonly onProgress?: (bytes: number) => void } {
  if (options.onProgress === undefined) return {};
  tell(options, layer, "started", 0);
  return { onProgress: (bytes) => tell(options, layer, "bytes", bytes) };
}

function tell(options: LoadOptions, layer: ArchivedLayer, event: LoadProgress["event"], bytes: number): void {
  const { diffId, part } = layer;
  options.onProgress?.({ diffId, event, bytes, totalBytes: isStoredPlain(layer) ? part.length : undefined });
}

/** True when the blob is the tar itself. */
function isStoredPlain({ part }: ArchivedLayer): boolean {
  using file = sys.open(bytesOfText(part.file), C.O_RDONLY);
  const head = Buffer.alloc(Math.min(part.length, detectionBytes));
  const n = head.length === 0 ? 0 : sys.pread64(file.fd, head, head.length, part.offset);
  return detectCompression(head.subarray(0, n)) === "none";
}

/** A layer's tar: in place where it is stored plain, else decompressed, its blob verified on the way. */
function tarOf(layer: ArchivedLayer, signal: AbortSignal): LayerTarInput {
  const { part, digest, what, diffId } = layer;
  if (isStoredPlain(layer) && (digest === undefined || digest.startsWith("sha256:"))) {
    // Its diff ID is verified, and of a plain blob the digest is the same.
    if (digest !== undefined && digest !== (diffId as string)) throw digestMismatch(what, digest);
    return part;
  }
  const stored = streamPart(part);
  const checked = digest === undefined ? stored : verified(stored, { digest, sizeBytes: part.length, what });
  return plainBytes(checked, signal);
}
