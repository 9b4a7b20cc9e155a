/**
 * Writes images to archives and layouts. Everything that could vary is fixed (times, owners, order, compression headers), so
 * the same images give the same bytes.
 *
 *   docker-archive   <config hex>.json, <diff hex>.tar for each layer (plain), manifest.json
 *   OCI, both        oci-layout, blobs/sha256/<hex> for layers, config and manifest of each image, index.json
 *
 * An image that several of the given names mean is written once. Layers that must be compressed go through temporary files,
 * as a tar header needs their size; two at a time.
 *
 * The file is longer than most because the three forms share their blobs, their sinks and what is fixed in them.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { LayerId } from "../drivers/driver.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { syncDirectory } from "../fs/durable-file.ts";
import { flushFileSystem } from "../fs/flush.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { disposable } from "../lib/disposables.ts";
import { type ImageConfig, parseConfig, platformOfConfig } from "../oci/config.ts";
import type { Descriptor } from "../oci/descriptor.ts";
import { type Digest, digestOf, hexOf } from "../oci/digest.ts";
import { blobPathOf, encodeDockerArchiveManifest, encodeLayoutFile } from "../oci/layout.ts";
import { encodeImageIndex, encodeManifest, manifestOf } from "../oci/manifest.ts";
import { type LayerCompression, mediaTypes } from "../oci/media-types.ts";
import { parseReference } from "../oci/reference.ts";
import { systemZstd } from "../sys/zstd.ts";
import { compress, TarWriter } from "../tar/index.ts";
import { readBlob } from "./blobs.ts";
import { readLayer } from "./check.ts";
import type { StoreContext } from "./context.ts";
import { requireImage } from "./images.ts";
import type { LayerRecord } from "./types.ts";

export type SaveFormat = "docker-archive" | "oci-archive" | "oci-layout";

/** A file or directory that appears under its name only when it is complete, or a sink of bytes (archives only). */
export type SaveTarget = { readonly path: string } | { readonly write: (chunk: Uint8Array) => Promise<void> };

export interface SaveOptions {
  /** Default docker-archive. */
  readonly format?: SaveFormat | undefined;
  /** How layers are stored in the OCI formats; default gzip. A docker-archive has them plain. */
  readonly compression?: LayerCompression | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called as the bytes of a layer's tar are written (or compressed). */
  readonly onProgress?:
    | ((progress: { readonly diffId: string; readonly bytes: number; readonly totalBytes: number }) => void)
    | undefined;
}

/** One image to be written, and the names it was asked for by. */
interface Saved {
  readonly id: Digest;
  readonly configBytes: Buffer;
  readonly config: ImageConfig;
  readonly layers: readonly LayerRecord[];
  readonly tags: string[];
}

/** A place that files are put in, one after the other. */
interface Sink {
  put(name: string, sizeBytes: number, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<void>;
  end(): Promise<void>;
}

const layersAtOnce = 2;
const layerTypes: Readonly<Record<LayerCompression, string>> = {
  none: mediaTypes.ociLayer,
  gzip: mediaTypes.ociLayerGzip,
  zstd: mediaTypes.ociLayerZstd,
};

/** See `Store.save`. */
export async function saveImages(
  store: StoreContext,
  names: readonly string[],
  target: SaveTarget,
  options: SaveOptions,
): Promise<void> {
  if (names.length === 0) throw new LamellaError("invalid_argument", "NO_NAMES", "no image to save was named");
  const format = options.format ?? "docker-archive";
  const compression = options.compression ?? "gzip";
  const held: LayerId[] = [];
  using _release = disposable(() => {
    for (const layer of held) store.holds.releaseLayer(layer);
  });
  const images = collect(store, names, held);
  const writeAll = async (sink: Sink): Promise<void> => {
    if (format === "docker-archive") await writeDockerArchive(store, images, sink, options);
    else await writeLayout(store, images, sink, { ...options, compression });
    await sink.end();
  };
  if (format === "oci-layout") {
    if (!("path" in target)) {
      throw new LamellaError("invalid_argument", "NEEDS_DIRECTORY", "an OCI layout is a directory, not a stream", {
        hint: "name a directory, or choose oci-archive",
      });
    }
    await intoDirectory(target.path, store.durable, (path) => writeAll(new DirectorySink(path)));
  } else if ("path" in target) {
    await intoFile(target.path, store.durable, (file) => writeAll(new TarSink((chunk) => writeFully(file, chunk))));
  } else await writeAll(new TarSink(target.write));
}

/** Finds the images and keeps their layers from being removed meanwhile. */
function collect(store: StoreContext, names: readonly string[], held: LayerId[]): Saved[] {
  const images = new Map<Digest, Saved>();
  for (const name of names) {
    const { record, tag } = requireImage(store, name);
    let image = images.get(record.id);
    if (image === undefined) {
      if (record.chainId !== undefined) {
        const layer = store.holdChain(record.chainId);
        if (layer !== undefined) held.push(layer.layerId);
      }
      const configBytes = readBlob(store, record.id);
      const config = parseConfig(configBytes);
      image = { id: record.id, configBytes, config, layers: store.tables.chain(record.chainId), tags: [] };
      images.set(record.id, image);
    }
    if (tag !== undefined && !image.tags.includes(tag)) image.tags.push(tag);
  }
  return [...images.values()];
}

async function writeDockerArchive(
  store: StoreContext,
  images: readonly Saved[],
  sink: Sink,
  options: SaveOptions,
): Promise<void> {
  const put = new Set<string>();
  for (const image of images) {
    for (const layer of image.layers) {
      const name = `${hexOf(layer.diffId)}.tar`;
      if (put.has(name)) continue;
      put.add(name);
      await sink.put(name, layer.tarSizeBytes, layerTar(store, layer, options));
    }
    await sink.put(`${hexOf(image.id)}.json`, image.configBytes.length, image.configBytes);
  }
  const items = images.map(({ id, layers, tags }) => ({
    config: `${hexOf(id)}.json`,
    repoTags: tags,
    layers: layers.map(({ diffId }) => `${hexOf(diffId)}.tar`),
  }));
  const manifest = encodeDockerArchiveManifest(items);
  await sink.put("manifest.json", manifest.length, manifest);
}

async function writeLayout(
  store: StoreContext,
  images: readonly Saved[],
  sink: Sink,
  options: SaveOptions & { readonly compression: LayerCompression },
): Promise<void> {
  const put = new Set<string>();
  const putBlob = async (
    { digest, size }: { readonly digest: Digest; readonly size: number },
    content: () => Uint8Array | AsyncIterable<Uint8Array>,
  ): Promise<void> => {
    if (put.has(digest)) return;
    put.add(digest);
    await sink.put(blobPathOf(digest), size, content());
  };
  const marker = encodeLayoutFile();
  await sink.put("oci-layout", marker.length, marker);

  const layers = new Map<string, LayerRecord>();
  for (const image of images) for (const layer of image.layers) layers.set(layer.diffId, layer);
  const blobs = new Map<string, Descriptor>();
  const waiting = [...layers.values()];
  const compressed: Promise<CompressedLayer>[] = [];
  const start = (): void => {
    const layer = waiting.shift();
    if (layer === undefined) return;
    const work = compressLayer(store, layer, options);
    // It may fail while an earlier one is still waited for.
    work.catch(() => {});
    compressed.push(work);
  };
  for (let i = 0; i < layersAtOnce; i++) start();
  try {
    for (let next = compressed.shift(); next !== undefined; next = compressed.shift()) {
      const { diffId, descriptor, content, remove } = await next;
      start();
      blobs.set(diffId, descriptor);
      await putBlob(descriptor, content);
      remove();
    }
  } finally {
    for (const result of await Promise.allSettled(compressed)) if (result.status === "fulfilled") result.value.remove();
  }

  const manifests: Descriptor[] = [];
  for (const image of images) {
    const config = descriptorOf(mediaTypes.ociConfig, image.configBytes);
    await putBlob(config, () => image.configBytes);
    const list = image.layers.map(({ diffId }) => blobs.get(diffId) as Descriptor);
    const manifest = encodeManifest(manifestOf("oci", config, list));
    const descriptor = descriptorOf(mediaTypes.ociManifest, manifest);
    await putBlob(descriptor, () => manifest);
    const entry = { ...descriptor, platform: platformOfConfig(image.config) };
    if (image.tags.length === 0) manifests.push(entry);
    for (const tag of image.tags) manifests.push({ ...entry, annotations: annotationsOf(tag, images) });
  }
  const index = encodeImageIndex({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests });
  await sink.put("index.json", index.length, index);
}

/**
 * The names of an index entry. skopeo and umoci look for the ref name, which by custom is the tag alone; where that would
 * name two images it is the whole name. containerd takes the other, which is the name as it stands.
 */
function annotationsOf(name: string, images: readonly Saved[]): Readonly<Record<string, string>> {
  const { tag = "latest" } = parseReference(name);
  const all = images.flatMap(({ tags }) => tags.map((other) => parseReference(other).tag));
  return {
    "io.containerd.image.name": name,
    "org.opencontainers.image.ref.name": all.filter((other) => other === tag).length > 1 ? name : tag,
  };
}

interface CompressedLayer {
  readonly diffId: string;
  readonly descriptor: Descriptor;
  readonly content: () => AsyncIterable<Uint8Array>;
  readonly remove: () => void;
}

async function compressLayer(
  store: StoreContext,
  layer: LayerRecord,
  options: SaveOptions & { readonly compression: LayerCompression },
): Promise<CompressedLayer> {
  const { diffId } = layer;
  const mediaType = layerTypes[options.compression];
  if (options.compression === "none") {
    const descriptor = { mediaType, digest: diffId as string as Digest, size: layer.tarSizeBytes };
    return { diffId, descriptor, content: () => layerTar(store, layer, options), remove: () => {} };
  }
  await mkdir(store.temporaryDirectory, { recursive: true, mode: 0o700 });
  const path = store.temporaryPath("layer");
  const remove = (): void => rmSync(path, { force: true });
  const hash = createHash("sha256");
  let size = 0;
  try {
    await using file = await open(path, "wx", 0o600);
    const stream = compress(layerTar(store, layer, options), options.compression, {
      signal: options.signal,
      zstd: systemZstd(),
    });
    for await (const chunk of stream) {
      hash.update(chunk);
      size += chunk.length;
      await writeFully(file, chunk);
    }
  } catch (error) {
    remove();
    throw error;
  }
  const digest = `sha256:${hash.digest("hex")}` as Digest;
  const content = (): AsyncIterable<Uint8Array> => createReadStream(path, { highWaterMark: 512 * 1024 });
  return { diffId, descriptor: { mediaType, digest, size }, content, remove };
}

async function* layerTar(store: StoreContext, layer: LayerRecord, options: SaveOptions): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of readLayer(store, layer, options.signal)) {
    throwIfAborted(options.signal);
    bytes += chunk.length;
    yield chunk;
    options.onProgress?.({ diffId: layer.diffId, bytes, totalBytes: layer.tarSizeBytes });
  }
}

function descriptorOf(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

/** Members of a tar, all with the same owner, mode and time. */
class TarSink implements Sink {
  readonly #write: (chunk: Uint8Array) => Promise<void>;
  readonly #tar = new TarWriter();
  readonly #directories = new Set<string>();

  constructor(write: (chunk: Uint8Array) => Promise<void>) {
    this.#write = write;
  }

  async put(name: string, sizeBytes: number, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
    for (let slash = name.indexOf("/"); slash > 0; slash = name.indexOf("/", slash + 1)) {
      const directory = name.slice(0, slash);
      if (this.#directories.has(directory)) continue;
      this.#directories.add(directory);
      await this.#write(
        this.#tar.header({ name: directory, type: "directory", mode: 0o755, uid: 0, gid: 0, mtimeSec: 0 }),
      );
    }
    await this.#write(
      this.#tar.header({ name, type: "file", mode: 0o644, uid: 0, gid: 0, size: sizeBytes, mtimeSec: 0 }),
    );
    let written = 0;
    for await (const chunk of content instanceof Uint8Array ? [content] : content) {
      written += chunk.length;
      await this.#write(chunk);
    }
    if (written !== sizeBytes) throw wrongSize(name, sizeBytes, written);
    await this.#write(this.#tar.padding(sizeBytes));
  }

  async end(): Promise<void> {
    await this.#write(this.#tar.end());
  }
}

/** Files in a directory. */
class DirectorySink implements Sink {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async put(name: string, sizeBytes: number, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
    const path = `${this.#path}/${name}`;
    mkdirSync(dirname(path), { recursive: true });
    if (content instanceof Uint8Array) {
      writeFileSync(path, content, { flag: "wx" });
      return;
    }
    await using file = await open(path, "wx");
    let written = 0;
    for await (const chunk of content) {
      written += chunk.length;
      await writeFully(file, chunk);
    }
    if (written !== sizeBytes) throw wrongSize(name, sizeBytes, written);
  }

  async end(): Promise<void> {}
}

/** A stream ended early or late: an archive whose header says otherwise must not be finished. */
function wrongSize(name: string, expected: number, found: number): LamellaError {
  return new LamellaError("data_loss", "SIZE_MISMATCH", `${name}: ${found} bytes where ${expected} were announced`);
}

async function intoFile(target: string, durable: boolean, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const path = resolve(target);
  if (existsSync(path) && readType(path) !== "file") {
    // A device or pipe cannot be replaced by renaming; it is written to.
    await using file = await open(path, "w");
    await write(file);
    return;
  }
  const temporary = temporaryBeside(path);
  try {
    {
      await using file = await open(temporary, "wx");
      await write(file);
      if (durable) await file.sync();
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  if (durable) syncDirectory(bytesOfText(dirname(path)));
}

async function intoDirectory(target: string, durable: boolean, write: (path: string) => Promise<void>): Promise<void> {
  const path = resolve(target);
  if (existsSync(path) && (readType(path) !== "directory" || readdirSync(path).length > 0)) {
    throw new LamellaError("already_exists", "TARGET_EXISTS", `${target} is there already`, {
      hint: "remove it, or name another directory",
    });
  }
  const temporary = temporaryBeside(path);
  try {
    mkdirSync(temporary, { recursive: true });
    await write(temporary);
    if (durable) await flushFileSystem(bytesOfText(temporary));
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true, recursive: true });
    throw error;
  }
  if (durable) syncDirectory(bytesOfText(dirname(path)));
}

function temporaryBeside(path: string): string {
  return `${dirname(path)}/.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`;
}

function readType(path: string): "file" | "directory" | "other" {
  const stat = statSync(path);
  return stat.isFile() ? "file" : stat.isDirectory() ? "directory" : "other";
}

async function writeFully(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
}
