/**
 * A store from one driver to another, under the same root or into another one.
 *
 * Every layer is made anew from its exact tar, verified by its diff ID; where both trees lie on one file system, data is
 * shared: by reflink where the file system has it, else by hard links between layers that nobody ever writes to (see
 * `sharesInodes`). Then come images, tags, cache rows and containers. Until all is there nothing changes for anybody; then
 * one write makes the new driver the one that counts (src/drivers/migration-record.ts). The old data stays, readable with
 * `--driver`, until `finishMigration` removes it.
 *
 * Killed at any point, the same command goes on where it stopped. The old driver counts meanwhile, so what was moved may have
 * changed or gone by then: containers are moved anew, and what is no longer there is taken away again.
 */
import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { hasLayers } from "../drivers/choose-driver.ts";
import { unsupported } from "../drivers/layer-errors.ts";
import { type MigrationRecord, readMigration, writeMigration } from "../drivers/migration-record.ts";
import { driverFactories, openDriver } from "../drivers/open-driver.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import type { ChainId } from "../oci/digest.ts";
import { failpoint } from "../store/failpoints.ts";
import { type ImageListing, Store } from "../store/store.ts";
import type { ContainerRecord, LayerRecord } from "../store/types.ts";
import { commandOf, contentsOf } from "./finish.ts";
import { isOfOneLayer, type LayerToMove, type MovedLayers, moveLayers, type OpenLayer } from "./layer-mover.ts";
import { moveContainer } from "./move-container.ts";
import type { MigrationProgress, MigrationReport, MovedContainer, Note } from "./report.ts";

export interface ToDriverOptions {
  /** The driver to move to. */
  readonly driver: string;
  readonly driverOptions?: Readonly<Record<string, string>> | undefined;
  /** The root to move to; default: the store's own. */
  readonly root?: string | undefined;
  /** Only tell what would be done. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: MigrationProgress) => void) | undefined;
}

/**
 * Drivers whose layers are directories in which nobody ever writes to a file of a committed layer: overlayfs and aufs copy a
 * file up first; `overlay` and `vfs` replace files while a layer is applied and mount it read-only afterwards, and containers
 * get an upper directory or a copy of their own. So an inode may be shared between two such trees. On the others a hard link
 * cannot be made at all, as every layer is a subvolume or a file system of its own.
 */
const sharesInodes = new Set(["overlay2", "overlay", "fuse-overlay", "vfs", "aufs"]);

/**
 * Moves a store. Errors: failed_precondition when others use it, a container is mounted, it is being moved elsewhere already,
 * or the driver does not work there; what ends the whole move.
 */
export async function migrateToDriver(source: Store, options: ToDriverOptions): Promise<MigrationReport> {
  const { driver, driverOptions, signal } = options;
  const toRoot = otherRoot(source.root, options.root);
  const root = toRoot ?? source.root;
  if (toRoot === undefined && driver === source.driver.name) throw sameDriver(source);
  refuseOtherMove(source, driver, toRoot);
  if (toRoot !== undefined) refuseOtherDriver(toRoot, driver);
  if (options.dryRun) {
    await refuseUnsupported(driver, root);
    return dryReport(source);
  }
  refuseBusy(source);
  // Before anything is noted: a driver that cannot be opened could not be given up, either.
  await using target = await Store.open({ root, driver, driverOptions, durable: source.durable, signal });
  const record = beginMigration(source, target);
  failpoint("migrate.begun");
  const isUntouched = record.state === "moving" || (await contentsOf(target, signal)) === record.toContents;
  const move = new DriverMove(source, target, { ...options, replace: isUntouched && !record.merges });
  for (;;) {
    const fromContents = await contentsOf(source, signal);
    const report = await move.run();
    if (report.leftOut.length > 0) return report;
    refuseBusy(source);
    // Somebody has come and gone meanwhile: what he made is moved, too.
    if ((await contentsOf(source, signal)) !== fromContents) continue;
    writeMigration(bytesOfText(source.root), {
      ...record,
      state: "moved",
      fromContents,
      toContents: await contentsOf(target, signal),
    });
    failpoint("migrate.moved");
    return report;
  }
}

/** The other root's path; undefined when it is the same. */
function otherRoot(root: string, wanted: string | undefined): string | undefined {
  if (wanted === undefined) return undefined;
  const path = existsSync(wanted) ? realpathSync(wanted) : resolve(wanted);
  return path === root ? undefined : path;
}

/** Refuses a second move while one is not ended. */
function refuseOtherMove(source: Store, to: string, toRoot: string | undefined): void {
  const record = readMigration(bytesOfText(source.root));
  if (record === undefined) return;
  if (record.from === source.driver.name && record.to === to && record.toRoot === toRoot) return;
  const where = record.toRoot === undefined ? "" : ` in ${record.toRoot}`;
  const isDone = record.state === "moved";
  const complete = isDone ? "" : `run \`lamella ${commandOf(record)}\` to its end, then `;
  throw new LamellaError(
    "failed_precondition",
    "MIGRATION_UNDER_WAY",
    `${source.root} ${isDone ? "has been" : "is being"} moved from ${record.from} to ${record.to}${where}`,
    { hint: `${complete}end that with \`lamella migrate --finish\`, or give it up with \`lamella migrate --undo\`` },
  );
}

/** Refuses a root with another driver's layers: which of the two counts would not be known there. */
function refuseOtherDriver(root: string, driver: string): void {
  const other = [...driverFactories.values()].find(
    (factory) => factory.name !== driver && hasLayers(bytesOfText(root), factory),
  );
  if (other === undefined) return;
  throw new LamellaError("failed_precondition", "OTHER_DRIVER", `${root} holds layers of ${other.name}`, {
    hint: `name another directory, or move with --to ${other.name}`,
  });
}

/** Errors: invalid_argument for an unknown driver, failed_precondition for one that cannot have its data there. */
async function refuseUnsupported(driver: string, root: string): Promise<void> {
  const factory = driverFactories.get(driver);
  // Fails, as there is no such driver, and names those that there are.
  if (factory === undefined) return void (await openDriver({ root: bytesOfText(root), name: driver }));
  const home = bytesOfText(`${root}/${driver}`);
  const refusal = (await factory.probe(home)).find(({ ok, required }) => required && !ok);
  if (refusal !== undefined) throw unsupported(driver, home, refusal.reason, refusal.remedy ?? "name another driver");
}

/** Notes that the move is under way, so that it is known which driver counts meanwhile. */
function beginMigration(source: Store, target: Store): MigrationRecord {
  const root = bytesOfText(source.root);
  const before = readMigration(root);
  if (before !== undefined) return before;
  const record: MigrationRecord = {
    from: source.driver.name,
    to: target.driver.name,
    toRoot: target.root === source.root ? undefined : target.root,
    state: "moving",
    merges: target.images().length > 0 || target.containers().length > 0,
    fromContents: undefined,
    toContents: undefined,
  };
  writeMigration(root, record);
  return record;
}

/** Refuses to move what others work on, or what programs may be writing to. */
function refuseBusy(source: Store): void {
  const mounted = source.containers().find(({ layerId }) => source.driver.inUse(layerId));
  if (mounted !== undefined) {
    const name = mounted.name ?? mounted.id.slice(0, 12);
    throw new LamellaError("failed_precondition", "CONTAINER_MOUNTED", `container ${name} is mounted`, {
      hint: `end what runs in it, or unmount it with \`lamella umount ${name}\`, and run the command again`,
    });
  }
  if (source.othersAtWork() === 0) return;
  throw new LamellaError("failed_precondition", "STORE_IN_USE", `another process works on ${source.root}`, {
    hint: "wait for it (a build, a running container, `lamella serve`) and run the command again: what has been moved stays",
  });
}

function dryReport(source: Store): MigrationReport {
  const layers = source.layers();
  return {
    dryRun: true,
    images: source.images().map(({ id, tags }) => ({ id, tags })),
    containers: source.containers().map(({ id, name }) => ({ id, name })),
    layers: {
      count: layers.length,
      made: layers.length,
      madeBytes: layers.reduce((sum, { tarSizeBytes }) => sum + tarSizeBytes, 0),
      sharedBytes: 0,
    },
    leftOut: [],
    notes: source
      .containers()
      .filter(({ layerId }) => source.driver.inUse(layerId))
      .map(({ id, name }) => ({
        subject: name ?? id,
        message: "container: it is mounted; that must end before the move",
      })),
  };
}

interface MoveOptions extends ToDriverOptions {
  /** All that the target has comes from the source, and nobody has worked on it: it is made what the source is now. */
  readonly replace: boolean;
}

class DriverMove {
  readonly #source: Store;
  readonly #target: Store;
  readonly #options: MoveOptions;
  readonly #mayLink: boolean;
  #leftOut: Note[] = [];
  #notes: Note[] = [];

  constructor(source: Store, target: Store, options: MoveOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#mayLink = sharesInodes.has(source.driver.name) && sharesInodes.has(target.driver.name);
  }

  /** Moves all there is. */
  async run(): Promise<MigrationReport> {
    const { signal, onProgress } = this.#options;
    this.#leftOut = [];
    this.#notes = [];
    const layers = this.#source.layers();
    using moved = await moveLayers(
      this.#target,
      layers.map((layer) => this.#toMove(layer)),
      { signal, onProgress: (progress) => onProgress?.({ kind: "layer", ...progress }) },
    );
    const images: ImageListing[] = [];
    for (const image of this.#source.images()) {
      throwIfAborted(signal);
      if (!this.#isThere(image.tags[0] ?? image.id, image.chainId, moved)) continue;
      const { bytes } = await this.#source.config(image.id);
      await this.#target.publish({ image: { config: bytes, chainId: image.chainId, tags: image.tags } });
      images.push(image);
    }
    await this.#target.publish({
      cache: this.#source
        .cacheRows()
        .filter(([, { chainId }]) => chainId === undefined || moved.records.has(chainId))
        .map(([key, { chainId, createdAt }]) => ({ key, chainId, createdAt })),
    });
    const containers: MovedContainer[] = [];
    for (const container of this.#source.containers()) {
      throwIfAborted(signal);
      if (await this.#container(container, moved)) containers.push({ id: container.id, name: container.name });
    }
    if (this.#options.replace) await this.#removeGone();
    const { made, madeBytes, sharedBytes } = moved;
    return {
      dryRun: false,
      images: images.map(({ id, tags }) => ({ id, tags })),
      containers,
      layers: { count: layers.length, made, madeBytes, sharedBytes },
      leftOut: this.#leftOut,
      notes: this.#notes,
    };
  }

  /** Takes from the target what was moved before, and has gone from the source since. */
  async #removeGone(): Promise<void> {
    const images = this.#source.images();
    const ids = new Set<string>([...images, ...this.#source.containers()].map(({ id }) => id));
    const tags = new Set(images.flatMap((image) => image.tags));
    for (const { id } of this.#target.containers()) if (!ids.has(id)) await this.#target.removeContainer(id);
    for (const image of this.#target.images()) {
      if (!ids.has(image.id)) await this.#target.removeImage(image.id, { force: true });
      else for (const tag of image.tags) if (!tags.has(tag)) this.#target.untag(tag);
    }
  }

  #toMove({ chainId, parent, diffId, tarSizeBytes }: LayerRecord): LayerToMove {
    const open = async (signal: AbortSignal): Promise<OpenLayer> => {
      const source = await this.#source.tarSource(chainId);
      return {
        diffId,
        tar: this.#source.readLayer(chainId, { signal }),
        donor: { directory: source.value.content.layers[0] ?? "", link: this.#mayLink },
        [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
      };
    };
    return { chainId, parent, diffId, tarSizeBytes, open };
  }

  /** True when all layers of a chain were moved; else says what could not be. */
  #isThere(subject: string, chainId: ChainId | undefined, moved: MovedLayers): boolean {
    if (chainId === undefined || moved.records.has(chainId)) return true;
    const message = moved.failures.get(chainId)?.message ?? `its layer ${chainId} is missing`;
    this.#leftOut.push({ subject, message });
    return false;
  }

  async #container(record: ContainerRecord, moved: MovedLayers): Promise<boolean> {
    const { id, name, image, createdAt, chainId, layerId } = record;
    const shown = { id, name };
    const exists = this.#target.containers().some((existing) => existing.id === id);
    if (exists && !this.#options.replace) {
      const message = "container: it is there already, and was left as it is there";
      this.#notes.push({ subject: name ?? id, message });
      this.#options.onProgress?.({ kind: "container", container: shown, event: "exists" });
      return true;
    }
    if (!this.#isThere(name ?? id, chainId, moved)) return false;
    // It may have been written to since.
    if (exists) await this.#target.removeContainer(id);
    try {
      await using changes = await this.#source.driver.diffSource(layerId);
      await moveContainer(
        this.#target,
        {
          changes: changes.value,
          directory: changes.value.kind === "upper" ? changes.value.upper : changes.value.tree,
          container: { id, name, image, createdAt },
          parent: chainId && moved.records.get(chainId),
        },
        this.#options.signal,
      );
    } catch (error) {
      if (!isOfOneLayer(error)) throw error;
      this.#leftOut.push({ subject: name ?? id, message: `container: ${error.message}` });
      return false;
    }
    this.#options.onProgress?.({ kind: "container", container: shown, event: "done" });
    return true;
  }
}

function sameDriver(source: Store): LamellaError {
  const { name } = source.driver;
  const record = readMigration(bytesOfText(source.root));
  const hint =
    record?.to === name && record.state === "moved"
      ? `it has been moved; \`lamella migrate --finish\` removes the data under ${record.from}`
      : "name another driver, or another directory with --to-root";
  const message = `${source.root} is under the driver ${name} already`;
  return new LamellaError("failed_precondition", "SAME_DRIVER", message, { hint });
}
