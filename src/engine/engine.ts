/**
 * The engine: everything Lamella does, as an asynchronous API. The command line is a thin layer over it and uses nothing
 * else.
 *
 *     const engine = await Engine.open({ root: "/var/lib/lamella" });
 *     await engine.import({ source: "/srv/debian", name: "debian:12" });
 *     const { image } = await engine.build({ context: ".", tags: ["app"], searchPath: ["/usr/bin"] });
 *     for (const change of await engine.diff(await engine.create({ image: "app" }))) console.log(change.kind, change.path);
 *
 * Images are named by reference (`name[:tag]`), by ID, or by a unique prefix of one; containers by ID, prefix or name.
 * Everything throws LamellaError. An AbortSignal ends an operation with the `canceled` error, its clean-up done. Methods
 * may be called at the same time, and several processes may have an engine on one root.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { type BuildResult, build } from "../build/builder.ts";
import { startStepThread } from "../build/step-pool.ts";
import { StepThreads } from "../build/step-threads.ts";
import { listChanges } from "../diff/export-layer.ts";
import type { ContentSource } from "../diff/source.ts";
import type { Driver, LayerId, LayerView, Use } from "../drivers/driver.ts";
import type { DriverReport } from "../drivers/open-driver.ts";
import { freeUse } from "../drivers/use.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { textOfBytes } from "../lib/bytes.ts";
import type { EndedMigration, EndMigrationOptions } from "../migrate/finish.ts";
import type { FromDockerOptions } from "../migrate/from-docker.ts";
import type { MigrationReport } from "../migrate/report.ts";
import type { ToDockerOptions } from "../migrate/to-docker.ts";
import type { ToDriverOptions } from "../migrate/to-driver.ts";
import type { ImageConfig } from "../oci/config.ts";
import { type Platform, parsePlatform } from "../oci/platform.ts";
import type { ImportSource } from "../store/import-root.ts";
import type { LoadedImage } from "../store/load.ts";
import { type ImageListing, Store } from "../store/store.ts";
import type { CheckReport, ContainerRecord, DiskUsage, GcReport, ImageRecord, RemovedItem } from "../store/types.ts";
import { exportTreeToDirectory, exportTreeToTar } from "./export-tree.ts";
import { driverReports, engineInfo } from "./info.ts";
import {
  type ContainerInspection,
  graphDriverOf,
  type HistoryItem,
  historyOf,
  type ImageInspection,
  inspectContainer,
  inspectImage,
} from "./inspection.ts";
import { type FileEntry, listTree, openTree, readFromTree } from "./look-into.ts";
import type {
  BuildOptions,
  CheckOptions,
  CommitOptions,
  CreateOptions,
  EngineInfo,
  EngineOptions,
  FileChange,
  GcOptions,
  ImportOptions,
  InfoOptions,
  ListOptions,
  LoadOptions,
  SaveOptions,
} from "./options.ts";
import { containerSpec, type RunOptions, type RunResult } from "./run.ts";

/** Runs while a layer is open for reading: the layer cannot be removed meanwhile. */
interface OpenTree extends AsyncDisposable {
  readonly tree: ReturnType<typeof openTree>;
}

export class Engine implements AsyncDisposable {
  readonly #store: Store;

  private constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Opens the store under `root`, making it when it is not there. Errors: failed_precondition when no driver (or not the
   * one asked for) can run here, permission_denied.
   */
  static async open(options: EngineOptions): Promise<Engine> {
    if (options.forSteps) startStepThread();
    return new Engine(await Store.open(options));
  }

  /** What is known of a root, its driver and the host. Makes the root when it is not there. Errors: as {@link Engine.open}. */
  static async info(options: InfoOptions): Promise<EngineInfo> {
    return engineInfo(options);
  }

  /** Every driver's probes for a root, and why it is the one in use there or is not. Answers also where none can be used. */
  static async explainDrivers(options: InfoOptions): Promise<readonly DriverReport[]> {
    return driverReports(options);
  }

  /** Absolute path of the store. */
  get root(): string {
    return this.#store.root;
  }

  get driver(): Driver {
    return this.#store.driver;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }

  // ---- images --------------------------------------------------------------------------------------------------------

  /**
   * Makes an image of one layer from a root directory, a tar of one (plain, gzip or zstd; a path or a stream).
   * Errors: not_found, invalid_argument for a name or tar that is none.
   */
  async import(options: ImportOptions): Promise<ImageRecord> {
    const { source, name, platform, ...rest } = options;
    const tags = name === undefined ? [] : [name];
    return this.#store.importRoot(importSource(source), { ...rest, tags, platform: platformOf(platform) });
  }

  /** Loads the images of a docker-archive, an OCI archive or an OCI layout; a path or a stream of an archive. */
  async load(options: LoadOptions): Promise<readonly LoadedImage[]> {
    const { input, platform, ...rest } = options;
    const source = typeof input === "string" ? { path: input } : { stream: input };
    return this.#store.load(source, { ...rest, platform: platformOf(platform) });
  }

  /** Writes images as a docker-archive, an OCI archive or an OCI layout, to a path or a sink of bytes. */
  async save(options: SaveOptions): Promise<void> {
    const { images, output, ...rest } = options;
    await this.#store.save(images, typeof output === "string" ? { path: output } : { write: output }, rest);
  }

  /** All images, the newest first. */
  async images(): Promise<readonly ImageListing[]> {
    return this.#store.images();
  }

  /** An image and its config. Errors: not_found with the nearest names as hint. */
  async image(
    image: string,
  ): Promise<ImageRecord & { readonly tags: readonly string[]; readonly config: ImageConfig }> {
    const record = this.#store.image(image);
    const { config } = await this.#store.config(record.id);
    return { ...record, tags: this.#store.tagsOf(record.id), config };
  }

  /** All that is known of an image or a container. Errors: not_found. */
  async inspect(name: string): Promise<ImageInspection | ContainerInspection> {
    const image = this.#store.findImage(name);
    if (image === undefined) {
      const container = this.#containerOr(name, () => this.#store.image(name));
      return inspectContainer(container, await graphDriverOf(this.driver, container.layerId, { readOnly: false }));
    }
    const { config } = await this.#store.config(image.id);
    const top = this.#store.layersOf(image.chainId).at(-1);
    return inspectImage(
      image,
      config,
      this.#store.tagsOf(image.id),
      await graphDriverOf(this.driver, top?.layerId, { readOnly: true }),
    );
  }

  /** The steps an image was made of, the newest first. Errors: not_found. */
  async history(name: string): Promise<readonly HistoryItem[]> {
    const image = this.#store.image(name);
    const { config } = await this.#store.config(image.id);
    return historyOf(image, config, this.#store.layersOf(image.chainId), this.#store.tagsOf(image.id));
  }

  /** Gives an image a further name; a tag that exists moves. Answers the name in full. Errors: not_found. */
  async tag(image: string, name: string): Promise<string> {
    return this.#store.tag(image, name);
  }

  /** Takes a tag away, and removes the image with its last one. Errors: not_found, failed_precondition without `force`. */
  async removeImage(image: string, options: { readonly force?: boolean } = {}): Promise<readonly RemovedItem[]> {
    return this.#store.removeImage(image, options);
  }

  /**
   * Builds an image from a Dockerfile. Errors: BuildError and DockerfileError with the line, not_found for a file, image or
   * stage; canceled, when everything has been cleaned up.
   */
  async build(options: BuildOptions): Promise<BuildResult> {
    const { searchPath, runtime, ...rest } = options;
    return build({ ...rest, store: this.#store, threads: { searchPath, engine: runtime } });
  }

  /**
   * Writes the whole file system of an image, to a tar file or a directory that is new or empty.
   * Errors: not_found, failed_precondition.
   */
  async exportTree(
    image: string,
    target: { readonly tar: string } | { readonly directory: string },
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    const { chainId } = this.#store.image(image);
    const top = this.#store.layersOf(chainId).at(-1);
    if (top === undefined || chainId === undefined) throw noFiles(image);
    using _ = this.#store.hold(chainId);
    if ("tar" in target) await exportTreeToTar(this.driver, top.layerId, target.tar, options);
    else await exportTreeToDirectory(this.driver, top.layerId, target.directory, options);
  }

  // ---- looking inside ------------------------------------------------------------------------------------------------

  /**
   * The entries of a directory of an image or container in byte order, or the object itself when it is no directory.
   * Nothing is mounted. Errors: not_found.
   */
  async *ls(name: string, path: string, options: ListOptions = {}): AsyncGenerator<FileEntry> {
    await using open = await this.#openTree(name, options.layers);
    for (const entry of listTree(open.tree, path, options)) {
      throwIfAborted(options.signal);
      yield entry;
    }
  }

  /** The number of objects below the root of an image or container; `layers` counts what the lowest so many hold together. */
  async countEntries(name: string, options: Omit<ListOptions, "recursive"> = {}): Promise<number> {
    await using open = await this.#openTree(name, options.layers);
    let count = 0;
    for (const _ of listTree(open.tree, "/", { recursive: true })) {
      if (++count % 1024 === 0) throwIfAborted(options.signal);
    }
    return count;
  }

  /** The content of a file of an image or container. Nothing is mounted. Errors: not_found, failed_precondition. */
  async *cat(name: string, path: string, options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<Uint8Array> {
    await using open = await this.#openTree(name);
    for (const chunk of readFromTree(open.tree, path)) {
      throwIfAborted(options.signal);
      yield chunk;
    }
  }

  // ---- containers ----------------------------------------------------------------------------------------------------

  /** Makes a container, a writable layer on top of an image. Answers its ID. Errors: not_found, already_exists (its name). */
  async create(options: CreateOptions): Promise<string> {
    return (await this.#store.createContainer(options)).id;
  }

  /** All containers, the newest first. */
  async containers(): Promise<readonly ContainerRecord[]> {
    return this.#store.containers();
  }

  /**
   * Mounts a container's root file system and answers its path. The mount stays, after this process too, until
   * {@link Engine.umount}; in a user namespace it ends with the namespace. Mounting what is mounted answers the same path.
   */
  async mount(container: string): Promise<string> {
    const { layerId } = this.#store.container(container);
    // This process's own use ends at once; the mount is kept without it.
    await using mounted = await this.driver.mount(layerId, { keep: true });
    return textOfBytes(mounted.path);
  }

  /** Unmounts a container's root file system; false when it was not mounted. Errors: not_found. */
  async umount(container: string): Promise<boolean> {
    return this.driver.unmountAll(this.#store.container(container).layerId);
  }

  /** What a container changed in its image's file system, by path. Errors: not_found. */
  async diff(container: string, options: { readonly signal?: AbortSignal } = {}): Promise<readonly FileChange[]> {
    const { layerId } = this.#store.container(container);
    await using source = await this.driver.diffSource(layerId);
    const changes = await listChanges(source.value, options.signal);
    return changes.map(({ kind, path }) => ({ kind, path: textOfBytes(path) }));
  }

  /** Makes an image of a container's changes on top of its image. The container stays. */
  async commit(container: string, options: CommitOptions = {}): Promise<ImageRecord> {
    const { name, ...rest } = options;
    return this.#store.commitContainer(container, { ...rest, tags: name === undefined ? [] : [name] });
  }

  /** Removes a container. Errors: not_found, failed_precondition when it is mounted and not `force`. */
  async removeContainer(container: string, options: { readonly force?: boolean } = {}): Promise<void> {
    const { layerId } = this.#store.container(container);
    if (!options.force && this.driver.inUse(layerId)) {
      throw new LamellaError("failed_precondition", "CONTAINER_MOUNTED", `container ${container} is mounted`, {
        hint: `unmount it with \`lamella umount ${container}\`, or remove it with --force`,
      });
    }
    await this.#store.removeContainer(container, options);
  }

  /**
   * Runs a command in a new container and answers its exit code. Errors: not_found (the image), failed_precondition with
   * code COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE or RUNTIME_FAILED; canceled, when everything the container started
   * has been killed and nothing is left mounted.
   */
  async run(options: RunOptions): Promise<RunResult> {
    const image = await this.image(options.image);
    const { id, layerId } = await this.#store.createContainer({
      image: image.id,
      name: options.name,
      sizeBytes: options.sizeBytes,
      durable: options.remove !== true,
    });
    try {
      // A container that stays is mounted where others see that it is in use; for a passing one nobody else looks.
      await using mounted = options.remove ? undefined : await this.driver.mount(layerId);
      await using root =
        mounted === undefined
          ? await this.driver.view(layerId)
          : freeUse<LayerView>({ kind: "directory", path: mounted.path, readOnly: false });
      const spec = containerSpec(options, image.config.config ?? {}, root.value, id);
      await using threads = new StepThreads({
        // What the thread covers with a file system of its own, and never looks at.
        scratch: join(this.root, "tmp"),
        searchPath: options.searchPath,
        engine: options.runtime,
        parallelism: 1,
      });
      const { signal, onOutput } = options;
      const { exitCode } = await threads.runContainer(spec, { signal, onOutput });
      return { containerId: id, exitCode };
    } finally {
      if (options.remove) await this.#store.removeContainer(id, { force: true });
    }
  }

  // ---- migration -----------------------------------------------------------------------------------------------------

  /**
   * Brings the images and containers of a stopped dockerd's data root into the store. Errors: not_found,
   * failed_precondition when dockerd is running; what is wrong with single images is told in the report.
   */
  async migrateFromDocker(options: FromDockerOptions): Promise<MigrationReport> {
    const { migrateFromDocker } = await import("../migrate/from-docker.ts");
    return migrateFromDocker(this.#store, options);
  }

  /** Writes the store's images into the data root of a stopped dockerd, or a new one. Errors: as migrateFromDocker. */
  async migrateToDocker(options: ToDockerOptions): Promise<MigrationReport> {
    const { migrateToDocker } = await import("../migrate/to-docker.ts");
    return migrateToDocker(this.#store, options);
  }

  /**
   * Moves everything to another driver, under the same root or into another one. The old data stays until
   * {@link Engine.finishMigration}; this engine still works on it. Errors: failed_precondition when others use the store or a
   * container is mounted.
   */
  async migrate(options: ToDriverOptions): Promise<MigrationReport> {
    const { migrateToDriver } = await import("../migrate/to-driver.ts");
    return migrateToDriver(this.#store, options);
  }

  /** Removes the data under the old driver after {@link Engine.migrate}. Errors: failed_precondition. */
  static async finishMigration(options: EndMigrationOptions): Promise<EndedMigration> {
    const { finishMigration } = await import("../migrate/finish.ts");
    return finishMigration(options);
  }

  /** Gives up what {@link Engine.migrate} did: removes the data under the new driver. Errors: failed_precondition. */
  static async undoMigration(options: EndMigrationOptions): Promise<EndedMigration> {
    const { undoMigration } = await import("../migrate/finish.ts");
    return undoMigration(options);
  }

  // ---- upkeep --------------------------------------------------------------------------------------------------------

  /** What the store holds on disk. */
  async usage(): Promise<DiskUsage> {
    return this.#store.usage();
  }

  /** Removes what nothing needs: old build cache, layers of no image, what crashes left. */
  async gc(options: GcOptions = {}): Promise<GcReport> {
    return this.#store.gc(options);
  }

  /** Verifies that disk and records agree; `deep` reads all data, `repair` mends. */
  async check(options: CheckOptions = {}): Promise<CheckReport> {
    return this.#store.check(options);
  }

  // --------------------------------------------------------------------------------------------------------------------

  async #openTree(name: string, layers?: number): Promise<OpenTree> {
    const image = this.#store.findImage(name);
    const container = image === undefined ? this.#containerOr(name, () => this.#store.image(name)) : undefined;
    const chainId = (image ?? container)?.chainId;
    const chain = this.#store.layersOf(chainId);
    const layerId: LayerId | undefined =
      container !== undefined && layers === undefined
        ? container.layerId
        : chain[(layers ?? chain.length) - 1]?.layerId;
    if (layerId === undefined) throw noFiles(name);
    const hold = chainId === undefined ? undefined : this.#store.hold(chainId);
    let content: Use<ContentSource> | undefined;
    const close = async (): Promise<void> => {
      await content?.[Symbol.asyncDispose]();
      hold?.[Symbol.dispose]();
    };
    try {
      content = await this.driver.contentSource(layerId);
      const tree = openTree(content.value);
      return {
        tree,
        async [Symbol.asyncDispose]() {
          tree[Symbol.dispose]();
          await close();
        },
      };
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** The container of that name; when there is none, throws what looking for an image throws, whose hint is the better. */
  #containerOr(name: string, image: () => unknown): ContainerRecord {
    try {
      return this.#store.container(name);
    } catch (error) {
      if (error instanceof LamellaError && error.kind === "not_found") image();
      throw error;
    }
  }
}

function noFiles(name: string): LamellaError {
  return new LamellaError("not_found", "NO_LAYERS", `${name} holds no files: it has no layers`);
}

function platformOf(platform: string | Platform | undefined): Platform | undefined {
  return typeof platform === "string" ? parsePlatform(platform) : platform;
}

function importSource(source: ImportOptions["source"]): ImportSource {
  if (typeof source !== "string") return { kind: "tar", stream: source };
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new LamellaError("not_found", "NO_SUCH_FILE", `${source}: no such file or directory`, {
      hint: "give a root directory, or a tar of one (plain, gzip or zstd), or - for standard input",
    });
  }
  return stat.isDirectory() ? { kind: "directory", path: source } : { kind: "tar", file: source };
}
