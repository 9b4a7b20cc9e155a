/**
 * The driver zfs: every layer a dataset, a clone of its parent's snapshot. Making one copies nothing.
 *
 *     <home>/                  0710
 *       graph/<id>/                   mount point of the layer's dataset; only while mounted
 *       layers/, mnt/, .lamella/      see ../tree-driver.ts and ./home.ts
 *     <parent dataset>/<id>           see ./datasets.ts
 *
 * A layer exists when its record does, so that asking costs no process. The record is written after the dataset is made and
 * deleted before it is destroyed; a dataset of this home without a record counts for nothing, and `reclaim` destroys it.
 *
 * The record has, besides what all have:
 *
 *     origin <id>       the layer whose snapshot this one is a clone of; another than the parent after `reparent`
 *     clock <json>      the clock when the clone was made (../../diff/clock-stamp.ts)
 */
import { parseClockStamp, takeClockStamp } from "../../diff/clock-stamp.ts";
import type { TreesHint } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { flushFileSystem } from "../../fs/flush.ts";
import { isMountPoint } from "../../fs/mounts.ts";
import { treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverCapabilities, LayerId, LayerUsage } from "../driver.ts";
import { layerExists } from "../layer-errors.ts";
import type { LayerFacts } from "../layer-records.ts";
import { type NewTree, TreeDriver } from "../tree-driver.ts";
import { attachDataset } from "./attach.ts";
import { letDaemonCatchUp } from "./catch-up.ts";
import { type Datasets, isSnapshotName, type NewDataset, snapshotName } from "./datasets.ts";
import type { Programs } from "./programs.ts";
import { statusLines } from "./status.ts";
import type { ZfsHost } from "./trial.ts";
import { parseZfsDiff } from "./zfs-diff.ts";

export interface ZfsDriverOptions {
  readonly programs: Programs;
  readonly host: ZfsHost;
  readonly datasets: Datasets;
}

export class ZfsDriver extends TreeDriver {
  readonly name = "zfs";
  readonly capabilities: DriverCapabilities = {
    nativeDiff: true,
    stacks: false,
    maxDepth: Number.POSITIVE_INFINITY,
    quota: true,
    ownFileSystems: true,
  };
  protected override readonly mountsTrees = true;
  readonly #programs: Programs;
  readonly #host: ZfsHost;
  readonly #datasets: Datasets;
  /** Layers this process made and took no snapshot of yet. */
  readonly #fresh = new Set<LayerId>();

  /** The home exists with its folders and `graph`. */
  constructor(home: ByteString, { programs, host, datasets }: ZfsDriverOptions) {
    super(home);
    this.#programs = programs;
    this.#host = host;
    this.#datasets = datasets;
  }

  protected treeOf(id: LayerId): ByteString {
    return `${this.home}/graph/${id}`;
  }

  protected hasTree(id: LayerId): boolean {
    return this.records.has(id);
  }

  protected treeNames(): readonly string[] {
    return this.records.names();
  }

  protected async makeTree({ id, parent, sizeBytes, hex }: NewTree): Promise<LayerFacts["more"]> {
    const dataset: NewDataset = { id, hex, quotaBytes: sizeBytes, mountPoint: this.treeOf(id) };
    const make = (): Promise<"made" | "exists"> =>
      parent === undefined ? this.#datasets.create(dataset) : this.#clone(parent, dataset);
    if ((await make()) === "exists") {
      // What a crashed creation or removal left has no record.
      const creation = await this.#datasets.creationOf(id);
      if (this.exists(id) || creation === undefined || this.isBeingMade(creation)) throw layerExists(id);
      await this.#datasets.destroy(id);
      if ((await make()) === "exists") throw layerExists(id);
    }
    this.#fresh.add(id);
    if (parent === undefined) return new Map();
    const clock = JSON.stringify(takeClockStamp(`${this.home}/.lamella`));
    return new Map([
      ["origin", parent],
      ["clock", clock],
    ]);
  }

  protected placeTree(): void {}

  protected async abandonTree({ id, hex }: NewTree): Promise<void> {
    this.#fresh.delete(id);
    if ((await this.#datasets.creationOf(id)) !== hex) return;
    this.detachTree(id);
    await this.#datasets.destroy(id);
  }

  /** The dataset that stays busy, because somebody has it mounted where it cannot be seen, is left to `reclaim`. */
  protected setTreeAside(id: LayerId): () => Promise<void> {
    this.#fresh.delete(id);
    return async () => void (await this.#datasets.destroy(id));
  }

  protected async reclaimTrees(isGoing: (hex: string) => boolean): Promise<number> {
    // Before the datasets: a record that is written meanwhile has a dataset that is not listed.
    const records = this.treeNames();
    const { layers: datasets, staleTrials } = await this.#datasets.list();
    let count = 0;
    for (const { id, hex, snapshot } of datasets) {
      // In this order: a creation that is over has written its record.
      if (snapshot !== undefined || isGoing(hex) || this.records.has(id)) continue;
      if (await this.#datasets.destroy(id)) count++;
    }
    for (const { id, snapshot, isDeferred } of datasets) {
      // Handed over by a layer that is no more.
      if (snapshot === undefined || snapshot === snapshotName(id) || !isSnapshotName(snapshot) || isDeferred) continue;
      if (await this.#datasets.destroySnapshot(id, snapshot)) count++;
    }
    const present = new Set(datasets.map(({ id }) => id));
    for (const id of records) {
      if (present.has(id) || !this.records.has(id)) continue;
      this.records.remove(id);
      count++;
    }
    for (const name of staleTrials) await this.#datasets.destroyTrial(name);
    return count + staleTrials.length;
  }

  protected override detachTree(id: LayerId): boolean {
    if (this.#host.mounter === "daemon") letDaemonCatchUp(this.#datasets.nameOf(id));
    return super.detachTree(id);
  }

  protected override attachTree(id: LayerId): void {
    attachDataset(
      { programs: this.#programs, mounter: this.#host.mounter },
      this.#datasets.nameOf(id),
      this.treeOf(id),
    );
  }

  protected override async hintOf(id: LayerId, facts: LayerFacts): Promise<TreesHint | undefined> {
    const { parent, more } = facts;
    if (parent === undefined || more.get("origin") !== parent) return undefined;
    return (await this.#changedNames(id, parent)) ?? cloneHint(more.get("clock"));
  }

  /** Takes the snapshot of a layer that is whole: the first child needs it anyway, and it makes the pool's writes durable. */
  async flush(ids: readonly LayerId[]): Promise<void> {
    for (const id of ids) await this.#takeSnapshot(id);
  }

  /** Bytes that are not shared with the parent, as ZFS counts them with the next transaction group; inodes that are more. */
  async usage(id: LayerId): Promise<LayerUsage> {
    const { parent } = this.facts(id);
    const sizeBytes = await this.#datasets.usedBytes(id);
    const below = parent === undefined ? 0 : await this.#inodes(parent);
    return { sizeBytes, inodes: Math.max(0, (await this.#inodes(id)) - below) };
  }

  status(): readonly (readonly [string, string])[] {
    return statusLines(this.#programs, this.#host.parent);
  }

  override details(): readonly (readonly [string, string])[] {
    const { abilities, mounter } = this.#host;
    return [
      ["Datasets mounted by", mounter === "kernel" ? "the kernel" : "the zfs-fuse daemon"],
      ["Changes found by", abilities.diff ? "zfs diff" : "change times"],
    ];
  }

  async #clone(parent: LayerId, dataset: NewDataset): Promise<"made" | "exists"> {
    if (this.#fresh.has(parent)) await this.#takeSnapshot(parent);
    for (let isFirst = true; ; isFirst = false) {
      const made = await this.#datasets.clone(parent, dataset);
      if (made !== "missing") return made;
      if (!isFirst) throw missing(parent, this.#datasets.nameOf(parent));
      await this.#takeSnapshot(parent);
    }
  }

  async #takeSnapshot(id: LayerId): Promise<void> {
    await this.#flushMaps(id);
    await this.#datasets.takeSnapshot(id);
    this.#fresh.delete(id);
  }

  /**
   * Writes what maps of files hold back to the pool: a snapshot and `zfs diff` know nothing of the page cache. FUSE does it when
   * a map ends.
   */
  async #flushMaps(id: LayerId): Promise<void> {
    const tree = this.treeOf(id);
    if (this.#host.mounter === "kernel" && isMountPoint(tree)) await flushFileSystem(tree);
  }

  /** The names that may differ from the parent's, by `zfs diff`. Undefined where it is not to be had, or not enough. */
  async #changedNames(id: LayerId, parent: LayerId): Promise<TreesHint | undefined> {
    if (!this.#host.abilities.diff) return undefined;
    await this.#flushMaps(id);
    const tree = this.treeOf(id);
    const text = await this.#datasets.diff(parent, id);
    const found = text === undefined ? undefined : parseZfsDiff(text, tree);
    if (found === undefined) return undefined;
    const roots = [tree, this.treeOf(parent)];
    const isLinked = (path: ByteString): boolean =>
      roots.some((root) => (sys.statIfExists(AT_FDCWD, `${root}/${path}`)?.nlink ?? 0) > 1);
    return found.files.some(isLinked) ? undefined : found.hint;
  }

  async #inodes(id: LayerId): Promise<number> {
    await using tree = this.reach(id);
    return (await treeUsage(tree.value)).inodes;
  }
}

function cloneHint(clock: string | undefined): TreesHint | undefined {
  const stamp = clock === undefined ? undefined : parseClockStamp(JSON.parse(clock));
  return stamp && { kind: "clone", clock: stamp };
}

function missing(id: LayerId, dataset: string): LamellaError {
  return new LamellaError("data_loss", "LAYER_MISSING", `the dataset ${dataset} of layer ${id} is missing`, {
    hint: "run `lamella check`",
  });
}
