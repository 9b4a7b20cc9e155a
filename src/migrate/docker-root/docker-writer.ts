/**
 * Writes layers and images into Docker's data root, one that is there and at rest or a new one, so that the dockerd that
 * starts on it next takes them for its own.
 *
 * dockerd trusts what it finds in its layerdb for ever, and flushes nothing itself. Here the order is: the tree and the
 * tar-split; a flush of their file systems; the layerdb's directory under its name by one rename; then configs; at the very
 * end the tags. Killed in between, the root holds whole layers and at most one tree for each thread that no layerdb entry
 * knows. Each tree's name was noted before in `layerdb/tmp/lamella-<cache ID>/`, which dockerd never looks at; the next run
 * removes what it finds there.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import type { ContentDonor } from "../../diff/apply-donor.ts";
import { type AppliedTar, applyLayer, type LayerTarInput } from "../../diff/apply-layer.ts";
import type { ApplyTarget } from "../../diff/source.ts";
import type { TarSource } from "../../diff/tar-record-job.ts";
import { isLamellaError, LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { makeDirectory, syncDirectory, writeDurably } from "../../fs/durable-file.ts";
import { flushFileSystem } from "../../fs/flush.ts";
import { makeDirectories } from "../../fs/make-directories.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { RootDir } from "../../fs/root-dir.ts";
import { type ByteString, bytesOfText } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import { type ChainId, chainIdOf, type DiffId, type Digest, hexOf } from "../../oci/digest.ts";
import { encodeJson, sortedMap } from "../../oci/json.ts";
import { parseReference } from "../../oci/reference.ts";
import { familiarName } from "../../store/archived-image.ts";
import { failpoint } from "../../store/failpoints.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { findDockerRoot, onlyDriver, overlayPrefix } from "./docker-root.ts";
import { readRepositoriesFile } from "./image-db.ts";
import { readLayerDb } from "./layer-db.ts";
import { writeTarSplit } from "./layer-tar.ts";
import { type NewTrees, newTreesOf } from "./new-trees.ts";
import { keepDockerOut, refuseMounts } from "./running-daemon.ts";
import { namesBeneath } from "./small-file.ts";
import type { WrittenSplit } from "./tar-split-jobs.ts";

/** The most layers that Docker stacks in an image (layer_store.go, maxLayerDepth). */
export const maxDockerLayers = 125;
const stagingName = /^lamella-([0-9a-f]{64})$/;

export interface NewDockerLayer {
  readonly parent: ChainId | undefined;
  readonly diffId: DiffId;
  readonly tar: LayerTarInput;
  /** What the tar is made of. */
  readonly source: TarSource;
  readonly donor?: ContentDonor | undefined;
}

export interface DockerWriterOptions {
  readonly path: string;
  /** Default: the driver that has images there, else overlay2. */
  readonly driver?: string | undefined;
}

export class DockerWriter implements Disposable {
  readonly path: string;
  readonly driver: string;
  readonly #root: RootDir;
  readonly #home: ByteString;
  readonly #trees: NewTrees;
  #resources: Disposables;
  /** The driver's names of the layers there are. */
  readonly #cacheIds = new Map<ChainId, string>();

  private constructor(path: string, driver: string, resources: Disposables) {
    this.path = path;
    this.driver = driver;
    this.#resources = resources;
    this.#root = resources.use(RootDir.open(bytesOfText(path)));
    resources.use(keepDockerOut(this.#root, path));
    const home = `${path}/${driver}`;
    this.#home = bytesOfText(existsSync(home) ? realpathSync(home) : home);
    refuseMounts(this.#home);
    this.#trees = newTreesFor(driver)(this.#home, overlayPrefix());
  }

  /**
   * Opens a root, making it when it is not there. Errors: failed_precondition when dockerd runs on it (DOCKER_RUNNING) or has
   * its owners shifted, unimplemented for a driver whose layers cannot be written.
   */
  static open({ path: given, driver: wanted }: DockerWriterOptions): DockerWriter {
    const { path, driver } = chooseTarget(given, wanted);
    newTreesFor(driver);
    makeDirectories(path, 0o710);
    using resources = new Disposables();
    const writer = new DockerWriter(realpathSync(path), driver, resources);
    writer.#makeFolders();
    for (const { chainId, cacheId } of readLayerDb(writer.#root, writer.#layerDb).layers.values())
      writer.#cacheIds.set(chainId, cacheId);
    writer.#removeLeftovers();
    writer.#resources = resources.move();
    return writer;
  }

  /** True when the root has the layer. */
  has(chainId: ChainId): boolean {
    return this.#cacheIds.has(chainId);
  }

  /** Writes a layer that is not there; its parent is. Errors: data_loss when the tar is not the layer's. */
  async addLayer(
    layer: NewDockerLayer,
    options: { readonly signal: AbortSignal; readonly onProgress?: ((bytes: number) => void) | undefined },
  ): Promise<{ readonly tarSizeBytes: number; readonly sharedBytes: number }> {
    const { parent, diffId } = layer;
    const parentCacheId = parent === undefined ? undefined : this.#cacheIds.get(parent);
    if (parent !== undefined && parentCacheId === undefined)
      throw new LamellaError("data_loss", "LAYER_MISSING", `the layer below it, ${parent}, is not in ${this.path}`);
    const cacheId = randomBytes(32).toString("hex");
    const staging = `${this.#absolute("tmp")}/lamella-${cacheId}`;
    mkdirSync(staging, { mode: 0o700 });
    syncDirectory(bytesOfText(this.#absolute("tmp")));
    failpoint("migrate.docker-noted");
    try {
      const target = await this.#trees.create(cacheId, parentCacheId);
      failpoint("migrate.docker-tree-made");
      const written = await this.#fill(layer, { target, staging, ...options });
      const size = await this.#trees.sizeOf(cacheId, written.contentBytes);
      const files: Record<string, string> = { diff: diffId, size: String(size), "cache-id": cacheId };
      if (parent !== undefined) files.parent = parent;
      for (const [name, content] of Object.entries(files))
        writeFileSync(`${staging}/${name}`, content, { mode: 0o644, flag: "wx" });
      failpoint("migrate.docker-filled");
      await flushFileSystem(this.#home);
      await flushFileSystem(bytesOfText(staging));
      this.#place(staging, chainIdOf(parent, diffId));
      failpoint("migrate.docker-placed");
      this.#cacheIds.set(chainIdOf(parent, diffId), cacheId);
      return written;
    } catch (error) {
      this.#trees.remove(cacheId);
      rmSync(staging, { recursive: true, force: true });
      throw error;
    }
  }

  /** Writes an image's config, unless it is there. Its layers are. */
  addImage(id: Digest, config: Uint8Array): void {
    const path = `${this.path}/image/${this.driver}/imagedb/content/sha256/${hexOf(id)}`;
    if (!existsSync(path)) writeDurably(bytesOfText(path), config, { mode: 0o600 });
  }

  /** Gives images names, in one step; names that are there move. */
  setTags(tags: Iterable<readonly [tag: string, id: Digest]>): void {
    const base = `image/${this.driver}`;
    const repositories: Record<string, Record<string, Digest>> = {};
    for (const [name, references] of readRepositoriesFile(this.#root, base))
      repositories[name] = Object.fromEntries(references);
    for (const [tag, id] of tags) {
      const familiar = familiarName(tag);
      const { name } = parseReference(familiar);
      repositories[name] = { ...repositories[name], [familiar]: id };
    }
    const sorted = sortedMap(
      Object.fromEntries(Object.entries(repositories).map(([name, references]) => [name, sortedMap(references)])),
    );
    const path = bytesOfText(`${this.path}/${base}/repositories.json`);
    writeDurably(path, encodeJson({ Repositories: sorted }), { mode: 0o600 });
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }

  get #layerDb(): string {
    return `image/${this.driver}/layerdb`;
  }

  #absolute(name: "tmp" | "sha256"): string {
    return `${this.path}/${this.#layerDb}/${name}`;
  }

  #makeFolders(): void {
    const image = `image/${this.driver}`;
    const folders = ["image", image, `${image}/distribution`, `${image}/imagedb`, `${image}/layerdb`]
      .concat(["content", "content/sha256", "metadata", "metadata/sha256"].map((name) => `${image}/imagedb/${name}`))
      .map((name) => [name, 0o700] as const);
    for (const [name, mode] of [
      ...folders,
      [`${image}/layerdb/sha256`, 0o755],
      [`${image}/layerdb/tmp`, 0o755],
    ] as const)
      makeDirectory(bytesOfText(`${this.path}/${name}`), mode);
  }

  /** What an earlier run had in hand when it was killed. */
  #removeLeftovers(): void {
    const used = new Set(this.#cacheIds.values());
    for (const name of namesBeneath(this.#root, `${this.#layerDb}/tmp`)) {
      const cacheId = stagingName.exec(name)?.[1];
      if (cacheId === undefined) continue;
      if (!used.has(cacheId)) this.#trees.remove(cacheId);
      rmSync(`${this.#absolute("tmp")}/${name}`, { recursive: true, force: true });
    }
  }

  /** Fills the tree and writes the tar-split beside it. */
  async #fill(
    { tar, source, donor, diffId }: NewDockerLayer,
    work: {
      readonly target: ApplyTarget;
      readonly staging: string;
      readonly signal: AbortSignal;
      readonly onProgress?: ((bytes: number) => void) | undefined;
    },
  ): Promise<{ readonly tarSizeBytes: number; readonly sharedBytes: number; readonly contentBytes: number }> {
    const { target, staging, onProgress } = work;
    const failed = new AbortController();
    const signal = AbortSignal.any([work.signal, failed.signal]);
    const [applied, split] = await Promise.allSettled(
      [
        applyLayer({
          target,
          tar,
          donor,
          recordPath: `${staging}/record`,
          spillDir: `${staging}/spill`,
          signal,
          onProgress,
        }),
        writeTarSplit({ ...source, splitPath: bytesOfText(`${staging}/tar-split.json.gz`) }, signal),
      ].map((job) => {
        job.catch((error: unknown) => failed.abort(error));
        return job;
      }) as [Promise<AppliedTar>, Promise<WrittenSplit>],
    );
    for (const result of [applied, split])
      if (result.status === "rejected" && !isLamellaError(result.reason, "canceled")) throw result.reason;
    if (applied.status === "rejected") throw applied.reason;
    if (split.status === "rejected") throw split.reason;
    const { tarSizeBytes, sharedBytes } = applied.value;
    if (applied.value.diffId !== diffId)
      throw new LamellaError("data_loss", "DIFF_ID_MISMATCH", `the content has diff ID ${applied.value.diffId}`);
    rmSync(`${staging}/record`);
    removeTree(bytesOfText(`${staging}/spill`));
    return { tarSizeBytes, sharedBytes, contentBytes: split.value.contentBytes };
  }

  #place(staging: string, chainId: ChainId): void {
    const place = `${this.#absolute("sha256")}/${hexOf(chainId)}`;
    try {
      sys.renameToFree(AT_FDCWD, bytesOfText(staging), AT_FDCWD, bytesOfText(place));
    } catch (error) {
      if (!hasCode(error, "EEXIST", "ENOTEMPTY")) throw error;
      throw new LamellaError("data_loss", "DOCKER_LAYER", `Docker has a damaged entry of this layer: ${place}`, {
        hint: "remove that directory; Docker cannot use it either",
      });
    }
    syncDirectory(bytesOfText(this.#absolute("sha256")));
  }
}

function newTreesFor(driver: string): (typeof newTreesOf)[string] {
  const trees = newTreesOf[driver];
  if (trees !== undefined) return trees;
  throw new LamellaError("unimplemented", "DOCKER_DRIVER", `layers of Docker's driver ${driver} cannot be written`, {
    hint: `they can for ${Object.keys(newTreesOf).join(", ")}; use \`lamella save\` and \`docker load\` for others`,
  });
}

/** The root, remapped or new, and the driver that gets the layers. */
function chooseTarget(given: string, wanted: string | undefined): { readonly path: string; readonly driver: string } {
  const isThere = existsSync(given) && readdirSync(given).length > 0;
  if (!isThere) return { path: given, driver: wanted ?? "overlay2" };
  let found: ReturnType<typeof findDockerRoot>;
  try {
    found = findDockerRoot(given);
  } catch (error) {
    if (!isLamellaError(error, "not_found")) throw error;
    return { path: given, driver: wanted ?? "overlay2" };
  }
  if (found.owners !== undefined)
    throw new LamellaError("unimplemented", "DOCKER_REMAPPED", `${found.path} has owners shifted (userns-remap)`, {
      hint: "such a root can be read, not written: use `lamella save` and `docker load`",
    });
  return { path: found.path, driver: wanted ?? driverOf(found.path) };
}

function driverOf(path: string): string {
  try {
    return onlyDriver(path);
  } catch (error) {
    if (isLamellaError(error, "not_found")) return "overlay2";
    throw error;
  }
}
