/**
 * The adapter for drivers whose every layer is a whole tree of its own: copies (vfs), snapshots (btrfs), clones (zfs), thin
 * devices (devicemapper). Such a driver says how to make, reach and drop a tree, and, where it can, how a tree's changes are
 * found without comparing it with its parent's; everything else of the contract is derived here.
 *
 *     <home>/layers/<id>       what is noted of a layer (./layer-records.ts)
 *     <home>/mnt/<id>/         mount point of a read-only view; only while mounted
 *     <home>/.lamella/         `lock`, `mounts/` (./layer-uses.ts), `creating-<hex>` (locked while a creation is under way)
 *
 * Where a tree must be mounted to be reached (`mountsTrees`), its mount is shared by all who use it, and stays behind the last
 * of them for the next: a build diffs, clones and mounts the same few layers over and over. At most {@link MOST_IDLE} stay;
 * `rest` and `remove` end them. They are counted under the key `tree-<id>`, apart from the mounts callers ask for.
 *
 * Order within a creation: the tree, then the record. A layer exists when `hasTree` says so; a record without a tree counts
 * for nothing, and so does what `makeTree` left under another name: `reclaim` deletes both.
 */
import { randomBytes } from "node:crypto";
import type { ApplyTarget, ContentSource, DiffSource, TreesSource } from "../diff/source.ts";
import { isLamellaError, LamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { lockFile, tryLockFile } from "../fs/locks.ts";
import { detachedBind, isMountPoint } from "../fs/mounts.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { Driver, DriverCapabilities, LayerId, LayerUsage, LayerView, MountedLayer, Use } from "./driver.ts";
import { layerExists, noSuchLayer } from "./layer-errors.ts";
import { isLayerId } from "./layer-id.ts";
import { isInUse, joinMount, leftMounts, unmountAt } from "./layer-mounts.ts";
import { type LayerFacts, LayerRecords, newFacts } from "./layer-records.ts";
import { LayerUses } from "./layer-uses.ts";
import { mountView } from "./mount-view.ts";
import { freeUse, useOf, useUntil } from "./use.ts";

/** Mounts of trees that stay for the next caller. */
const MOST_IDLE = 16;

/** Folders every home has, with their modes, besides the driver's own. */
export const treeFolders = [
  ["", 0o710],
  ["/layers", 0o700],
  ["/mnt", 0o700],
  ["/.lamella", 0o700],
  ["/.lamella/mounts", 0o700],
] as const;

/** A layer being made. */
export interface NewTree {
  readonly id: LayerId;
  readonly parent: LayerId | undefined;
  /** Limit of what it may grow to, in bytes. */
  readonly sizeBytes: number | undefined;
  /** Random, of this creation alone: for temporary names. */
  readonly hex: string;
}

export abstract class TreeDriver implements Driver {
  abstract readonly name: string;
  abstract readonly capabilities: DriverCapabilities;
  readonly home: ByteString;
  protected readonly records: LayerRecords;
  protected readonly uses: LayerUses;
  /** Layers whose tree this process left mounted, the longest unused first. */
  readonly #idle = new Set<LayerId>();

  /** The home exists with its folders ({@link treeFolders}). */
  constructor(home: ByteString) {
    this.home = home;
    this.records = new LayerRecords(`${home}/layers`);
    this.uses = new LayerUses(`${home}/.lamella/mounts`);
  }

  // ---- what a driver says ----------------------------------------------------------------------------------------------

  /** Absolute path of a layer's tree. */
  protected abstract treeOf(id: LayerId): ByteString;

  /** True when the layer exists. Synchronous and cheap. */
  protected abstract hasTree(id: LayerId): boolean;

  /** Names of all layers there are. */
  protected abstract treeNames(): readonly string[];

  /**
   * Makes a layer's tree whole or not at all, empty (0755) or equal to its parent's, which is sealed. It may stay invisible
   * until {@link placeTree}. Answers what is to be noted of it.
   */
  protected abstract makeTree(tree: NewTree): Promise<LayerFacts["more"]>;

  /**
   * Makes the tree count, in one step. Called with the record written and the lock `.lamella/lock` held shared.
   * Errors: EEXIST when there is one of that id.
   */
  protected abstract placeTree(tree: NewTree): void;

  /** Undoes `makeTree`, whatever it has done by now. */
  protected abstract abandonTree(tree: NewTree): Promise<void>;

  /** In one step, makes a tree that nobody uses cease to count; what it answers deletes it. */
  protected abstract setTreeAside(id: LayerId): () => Promise<void>;

  /** Deletes what crashed creations and removals left; `isGoing(hex)`: that creation is under way. Returns the number of things. */
  protected abstract reclaimTrees(isGoing: (hex: string) => boolean): Promise<number>;

  /** Space a layer takes by itself. */
  abstract usage(id: LayerId): Promise<LayerUsage>;

  abstract status(): readonly (readonly [string, string])[];

  details(): readonly (readonly [string, string])[] {
    return [];
  }

  /** The tree must be mounted to be reached. */
  protected readonly mountsTrees: boolean = false;

  /** Where a layer's tree is mounted: the tree itself, or a directory above it. */
  protected mountPointOf(id: string): ByteString {
    return this.treeOf(id as LayerId);
  }

  /** Mounts a layer's tree at `mountPointOf(id)`, which is an empty directory. Synchronous. */
  protected attachTree(id: LayerId, _facts: LayerFacts): void {
    throw new LamellaError("internal", "NOT_MOUNTED", `${this.name}: the tree of layer ${id} is never mounted`);
  }

  /** Unmounts it, and removes the mount point; true when it was mounted. */
  protected detachTree(id: LayerId): boolean {
    return unmountAt(this.mountPointOf(id));
  }

  /** How the changes of a layer to its parent are found without comparing the trees, if there is a way. Both can be reached. */
  protected hintOf(_id: LayerId, _facts: LayerFacts): TreesSource["hint"] | Promise<TreesSource["hint"]> {
    return undefined;
  }

  // ---- what follows ----------------------------------------------------------------------------------------------------

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    if (this.exists(id)) throw layerExists(id);
    if (parent !== undefined) await this.seal(parent);
    const hex = randomBytes(4).toString("hex");
    const tree: NewTree = { id, parent, sizeBytes: options.sizeBytes, hex };
    // Held while the tree is made, so that `reclaim` leaves it alone; the lock file goes with the creation.
    const guard = this.#guardOf(hex);
    using _ = lockFile(guard, "shared");
    let written = false;
    try {
      const more = await this.makeTree(tree);
      using _lock = lockFile(`${this.home}/.lamella/lock`, "shared");
      if (this.exists(id)) throw layerExists(id);
      this.records.write(id, newFacts(parent, more));
      written = true;
      this.placeTree(tree);
      if (this.mountsTrees && isMountPoint(this.treeOf(id))) this.#leaveIdle(id);
    } catch (error) {
      await this.abandonTree(tree);
      if (hasCode(error, "EEXIST")) throw layerExists(id);
      if (written && !this.exists(id)) this.records.remove(id);
      throw error;
    } finally {
      raw.unlinkat(AT_FDCWD, guard);
    }
  }

  async seal(id: LayerId): Promise<void> {
    const facts = this.facts(id);
    if (!facts.sealed) this.records.write(id, { ...facts, sealed: true });
  }

  exists(id: LayerId): boolean {
    return isLayerId(id) && this.hasTree(id);
  }

  async list(): Promise<readonly LayerId[]> {
    return this.treeNames().filter(isLayerId).sort();
  }

  parentOf(id: LayerId): LayerId | undefined {
    return this.facts(id).parent;
  }

  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    await this.seal(parent);
    const facts = this.facts(id);
    this.uses.unused(id, () => this.records.write(id, { ...facts, parent }, { durable: true }));
  }

  async view(id: LayerId, options: { readonly readOnly?: boolean } = {}): Promise<Use<LayerView>> {
    const readOnly = (options.readOnly ?? false) || this.facts(id).sealed;
    const path = this.treeOf(id);
    if (!this.mountsTrees) return freeUse({ kind: "directory", path, readOnly });
    const tree = this.reach(id);
    try {
      const clone = detachedBind(path, { readOnly });
      const view: LayerView = { kind: "directory", path, readOnly, mountFd: clone.fd };
      const closing = useUntil(undefined, () => clone[Symbol.dispose]());
      return useOf(view, [tree, closing]);
    } catch (error) {
      await tree[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where the caller may not mount, a read-only view is the tree itself: nothing stops writes to it but good manners. */
  async mount(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly keep?: boolean } = {},
  ): Promise<MountedLayer> {
    const { keep } = options;
    const readOnly = (options.readOnly ?? false) || this.facts(id).sealed;
    const tree = this.reach(id, { keep });
    const target = `${this.home}/mnt/${id}`;
    let path = readOnly ? target : this.treeOf(id);
    const attach = (): void => {
      try {
        mountView({ kind: "directory", path: this.treeOf(id), readOnly: true }, target);
      } catch (error) {
        if (!hasCode(error, "EPERM")) throw error;
        path = this.treeOf(id);
      }
    };
    try {
      const use = readOnly
        ? joinMount(this.uses, id, { target, keep, attach })
        : this.uses.begin(id, () => undefined, keep === undefined ? {} : { keep });
      const mounted = useUntil(undefined, () => this.uses.end(use, () => unmountAt(target)));
      return { path, readOnly, [Symbol.asyncDispose]: useOf(undefined, [tree, mounted])[Symbol.asyncDispose] };
    } catch (error) {
      await tree[Symbol.asyncDispose]();
      throw error;
    }
  }

  inUse(id: LayerId): boolean {
    if (isInUse(this.uses, id, `${this.home}/mnt/${id}`)) return true;
    return this.mountsTrees && isInUse(this.uses, treeKey(id), this.mountPointOf(id));
  }

  async unmountAll(id: LayerId): Promise<boolean> {
    const any = this.uses.forced(id, () => unmountAt(`${this.home}/mnt/${id}`));
    if (!this.mountsTrees) return any;
    this.#idle.delete(id);
    return this.uses.forced(treeKey(id), () => this.detachTree(id)) || any;
  }

  async rest(): Promise<void> {
    for (const id of [...this.#idle]) this.detachUnused(id);
  }

  async remove(id: LayerId): Promise<void> {
    if (!this.exists(id)) return;
    this.#idle.delete(id);
    const setAside = (): (() => Promise<void>) => {
      unmountAt(`${this.home}/mnt/${id}`);
      if (this.mountsTrees) this.detachTree(id);
      const rest = this.setTreeAside(id);
      this.records.remove(id);
      return rest;
    };
    const unused = (): (() => Promise<void>) =>
      this.mountsTrees ? this.uses.unused(treeKey(id), setAside) : setAside();
    await this.uses.unused(id, unused)();
  }

  async reclaim(): Promise<number> {
    let count = this.#endLeftMounts(`${this.home}/mnt/`, String, (id) => unmountAt(`${this.home}/mnt/${id}`));
    if (this.mountsTrees) count += this.#endLeftMounts(this.mountPointOf(""), treeKey, (id) => this.detachTree(id));
    const lock = `${this.home}/.lamella/lock`;
    const isGoing = (hex: string): boolean => this.isBeingMade(hex);
    {
      using _ = lockFile(lock, "exclusive");
      for (const name of this.#stateNames()) if (name.startsWith("creating-")) isGoing(name.slice("creating-".length));
      for (const name of this.records.names()) {
        if (isLayerId(name) && this.exists(name)) continue;
        this.records.remove(name);
        count++;
      }
    }
    return count + (await this.reclaimTrees(isGoing));
  }

  async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const facts = this.facts(id);
    const { parent } = facts;
    const tree = this.treeOf(id);
    if (parent === undefined) return useOf({ kind: "trees", parent: undefined, tree }, [this.reach(id)]);
    const uses: AsyncDisposable[] = [];
    try {
      uses.push(this.reach(id));
      uses.push(this.reach(parent));
      const hint = await this.hintOf(id, facts);
      return useOf({ kind: "trees", parent: this.treeOf(parent), tree, ...(hint && { hint }) }, uses);
    } catch (error) {
      await useOf(undefined, uses)[Symbol.asyncDispose]();
      throw error;
    }
  }

  async applyTarget(id: LayerId): Promise<Use<ApplyTarget>> {
    const root = this.treeOf(id);
    return useOf({ whiteouts: "remove", root, lowers: [], prefix: "trusted.overlay." }, [this.reach(id)]);
  }

  async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    return useOf({ layers: [this.treeOf(id)], prefix: "trusted.overlay." }, [this.reach(id)]);
  }

  /** What is noted of a layer. Errors: not_found. */
  protected facts(id: LayerId): LayerFacts {
    if (!this.exists(id)) throw noSuchLayer(id, this.home);
    return this.records.read(id);
  }

  /** True while the creation with this random number is under way, in whatever process. */
  protected isBeingMade(hex: string): boolean {
    const guard = this.#guardOf(hex);
    using held = tryLockFile(guard, "exclusive");
    if (held === undefined) return true;
    raw.unlinkat(AT_FDCWD, guard);
    return false;
  }

  /** Makes a layer's tree reachable at `treeOf(id)`, in this mount namespace, until it is disposed. */
  protected reach(id: LayerId, options: { readonly keep?: boolean | undefined } = {}): Use<ByteString> {
    const tree = this.treeOf(id);
    const facts = this.facts(id);
    if (!this.mountsTrees) return freeUse(tree);
    const target = this.mountPointOf(id);
    const attach = (): void => this.attachTree(id, facts);
    const use = joinMount(this.uses, treeKey(id), { target, keep: options.keep, reuse: true, attach });
    this.#idle.delete(id);
    return useUntil(tree, () => this.uses.end(use, () => this.#leaveIdle(id)));
  }

  /** Leaves a layer's tree mounted for the next caller, and ends the mount that has been unused the longest. */
  #leaveIdle(id: LayerId): void {
    this.#idle.add(id);
    for (const oldest of this.#idle) {
      if (this.#idle.size <= MOST_IDLE) break;
      if (oldest !== id) this.detachUnused(oldest);
    }
  }

  /** Ends the mount of a tree unless somebody uses it, or it is kept; true when there was one. */
  protected detachUnused(id: LayerId): boolean {
    this.#idle.delete(id);
    return this.#unlessUsed(treeKey(id), () => this.detachTree(id));
  }

  /** Ends mounts right below a folder that nobody uses. Returns their number. */
  #endLeftMounts(folder: ByteString, keyOf: (id: LayerId) => string, detach: (id: LayerId) => boolean): number {
    let count = 0;
    const left = leftMounts(this.uses, folder, (rest) => (isLayerId(rest) ? keyOf(rest) : undefined));
    for (const key of left) {
      const id = key.slice(keyOf("" as LayerId).length) as LayerId;
      if (this.#idle.has(id)) continue;
      if (this.#unlessUsed(key, () => detach(id))) count++;
    }
    return count;
  }

  /** Ends a mount, unless somebody has come to use it, who will leave it behind or end it himself. */
  #unlessUsed(key: string, detach: () => boolean): boolean {
    if (this.uses.inUse(key)) return false;
    try {
      return this.uses.unused(key, detach);
    } catch (error) {
      if (!isLamellaError(error, "failed_precondition")) throw error;
      return false;
    }
  }

  #guardOf(hex: string): ByteString {
    return `${this.home}/.lamella/creating-${hex}`;
  }

  #stateNames(): string[] {
    using directory = sys.open(`${this.home}/.lamella`, O_RDONLY | O_DIRECTORY);
    return sys.readdir(directory.fd).map((entry) => entry.name);
  }
}

function treeKey(id: string): string {
  return `tree-${id}`;
}
