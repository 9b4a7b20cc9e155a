/**
 * The driver btrfs: every layer a subvolume, made as a snapshot of its parent's in one step, whatever its size. Layout as
 * Docker's, and what Lamella adds (docs/formats/btrfs.md):
 *
 *     <home>/                  0710
 *       subvolumes/<id>               the layer's tree; read-only once the layer is sealed
 *       quotas/<id>                   its size limit in bytes, when it has one
 *       layers/, mnt/, .lamella/      see ../tree-driver.ts
 *       subvolumes/.<id>-creating-<hex>, -removing-<hex>, -diffing-<hex>   unfinished creations and removals; diffs under way
 *
 * A layer's changes are asked of the kernel, which compares the two subvolumes block by block and names what differs
 * (BTRFS_IOC_SEND). Both must be read-only: a layer that is not sealed is frozen for it by a snapshot, so that programs may
 * go on writing to it. Where sending is not allowed, change times tell: a snapshot keeps them, see ClockStamp.
 *
 * Subvolumes that programs made inside a layer would be empty directories in its children; sealing makes directories of them.
 */
import { randomBytes } from "node:crypto";
import { parseClockStamp, takeClockStamp } from "../../diff/clock-stamp.ts";
import type { CloneHint, DiffSource, TreesHint } from "../../diff/source.ts";
import { diskUsage } from "../../fs/disk-usage.ts";
import { lockFile } from "../../fs/locks.ts";
import { treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { humanSize } from "../../lib/human-size.ts";
import {
  createSnapshot,
  createSubvolume,
  isReadOnlySubvolume,
  setSubvolumeReadOnly,
  spaceInfo,
  subvolumeInfo,
  subvolumesIn,
} from "../../sys/btrfs.ts";
import { limitSubvolume, quotaIsOn } from "../../sys/btrfs-quota.ts";
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverCapabilities, LayerId, LayerUsage, MountedLayer, Use } from "../driver.ts";
import { isLayerId } from "../layer-id.ts";
import type { LayerFacts } from "../layer-records.ts";
import { readSmallFile, writeNewFile } from "../small-file.ts";
import { type NewTree, TreeDriver } from "../tree-driver.ts";
import { freeUse, useOf, useUntil } from "../use.ts";
import { checkSize, turnQuotaOn } from "./quota.ts";
import { absorbSubvolumes, removeSubvolume } from "./subvolumes.ts";
import { writtenSince } from "./usage.ts";

const OPEN_DIRECTORY = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

export interface BtrfsSettings {
  /** The least a layer's limit may be. */
  readonly minSpaceBytes: number | undefined;
  /** Why the file system's own trees cannot be read, nor sent; undefined when they can. */
  readonly unprivileged: string | undefined;
}

export class BtrfsDriver extends TreeDriver {
  readonly name = "btrfs";
  readonly capabilities: DriverCapabilities;
  readonly #settings: BtrfsSettings;
  /** Layers being made read-only by this process. */
  readonly #finishing = new Map<LayerId, Promise<void>>();

  constructor(home: ByteString, settings: BtrfsSettings) {
    super(home);
    this.#settings = settings;
    this.capabilities = {
      nativeDiff: true,
      stacks: false,
      maxDepth: Number.POSITIVE_INFINITY,
      quota: settings.unprivileged === undefined,
      ownFileSystems: true,
    };
  }

  protected treeOf(id: LayerId): ByteString {
    return `${this.#folder}/${id}`;
  }

  protected hasTree(id: LayerId): boolean {
    return sys.statIfExists(AT_FDCWD, this.treeOf(id)) !== undefined;
  }

  protected treeNames(): readonly string[] {
    using folder = this.#openFolder();
    return sys.readdir(folder.fd).map((entry) => entry.name);
  }

  protected async makeTree({ id, hex, parent, sizeBytes }: NewTree): Promise<ReadonlyMap<string, ByteString>> {
    if (sizeBytes !== undefined) checkSize(sizeBytes, this.#settings.minSpaceBytes);
    const name = aside(id, "creating", hex);
    using folder = this.#openFolder();
    const facts = new Map<string, ByteString>();
    if (parent === undefined) {
      await createSubvolume(folder.fd, name);
      sys.lchmodat(folder.fd, name, 0o755);
    } else {
      facts.set("clock", JSON.stringify(takeClockStamp(`${this.home}/.lamella`)));
      using source = sys.open(this.treeOf(parent), OPEN_DIRECTORY);
      await createSnapshot(folder.fd, name, { fd: source.fd, readOnly: false });
    }
    if (sizeBytes !== undefined) {
      await turnQuotaOn(folder.fd);
      using made = new sys.OwnedFd(sys.openat(folder.fd, name, OPEN_DIRECTORY));
      limitSubvolume(made.fd, sizeBytes);
    }
    return facts;
  }

  protected placeTree({ id, hex, sizeBytes }: NewTree): void {
    using folder = this.#openFolder();
    sys.renameToFree(folder.fd, aside(id, "creating", hex), folder.fd, id);
    if (sizeBytes === undefined) return;
    // What is left of a removed layer may stand here still.
    sys.unlinkIfExists(AT_FDCWD, this.#quotaOf(id));
    writeNewFile(this.#quotaOf(id), String(sizeBytes), 0o644);
  }

  protected async abandonTree({ id, hex }: NewTree): Promise<void> {
    await this.#remove(aside(id, "creating", hex));
  }

  protected setTreeAside(id: LayerId): () => Promise<void> {
    const name = aside(id, "removing", randomBytes(4).toString("hex"));
    using folder = this.#openFolder();
    sys.renameat2(folder.fd, id, folder.fd, name);
    sys.unlinkIfExists(AT_FDCWD, this.#quotaOf(id));
    return () => this.#remove(name);
  }

  protected async reclaimTrees(isGoing: (hex: string) => boolean): Promise<number> {
    let count = 0;
    for (const name of this.treeNames()) {
      const hex = /^\.[0-9a-f]{64}-(?:creating|removing|diffing)-([0-9a-f]+)$/.exec(name)?.[1];
      if (hex === undefined || isGoing(hex)) continue;
      await this.#remove(name);
      count++;
    }
    using quotas = sys.open(`${this.home}/quotas`, OPEN_DIRECTORY);
    for (const { name } of sys.readdir(quotas.fd)) {
      if (isLayerId(name) && this.exists(name)) continue;
      sys.unlinkIfExists(quotas.fd, name);
      count++;
    }
    return count;
  }

  override async seal(id: LayerId): Promise<void> {
    await super.seal(id);
    await this.#finish(id);
  }

  override async mount(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly keep?: boolean } = {},
  ): Promise<MountedLayer> {
    await this.#renewLimit(id);
    return super.mount(id, options);
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    const { parent, more } = this.facts(id);
    if (parent === undefined) return treeUsage(this.treeOf(id));
    if (this.#settings.unprivileged !== undefined) {
      const since = { changedSince: clockOf(more), clonedFrom: this.treeOf(parent) };
      return diskUsage(this.treeOf(id), { oneFileSystem: true, ...since });
    }
    using root = sys.open(this.treeOf(id), OPEN_DIRECTORY);
    return writtenSince(root.fd, subvolumeInfo(root.fd).madeIn, sys.statfs(this.home).blockSize);
  }

  /** As Docker 23 and later print it: the line says no more than the driver's name. */
  status(): readonly (readonly [string, string])[] {
    return [["Btrfs", ""]];
  }

  override details(): readonly (readonly [string, string])[] {
    const { unprivileged } = this.#settings;
    using home = sys.open(this.home, OPEN_DIRECTORY);
    const space = (kind: "data" | "metadata"): string => {
      const infos = spaceInfo(home.fd).filter((info) => info.kind === kind || info.kind === "mixed");
      const sum = (of: "usedBytes" | "totalBytes"): string => humanSize(infos.reduce((n, info) => n + info[of], 0));
      return `${sum("usedBytes")} of ${sum("totalBytes")} set aside`;
    };
    return [
      ["Native Diff", unprivileged === undefined ? "btrfs send" : `by change time (btrfs send: ${unprivileged})`],
      ["Quota", unprivileged ?? (quotaIsOn(home.fd) ? "on" : "off")],
      ["Data Space", space("data")],
      ["Metadata Space", space("metadata")],
    ];
  }

  override async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const facts = this.facts(id);
    const { parent } = facts;
    if (parent === undefined) return super.diffSource(id);
    await this.#finish(parent);
    if (facts.sealed) await this.#finish(id);
    const tree = facts.sealed ? freeUse(this.treeOf(id)) : await this.#frozen(id);
    try {
      const hint = this.#hint(id, parent, tree.value);
      return useOf({ kind: "trees", parent: this.treeOf(parent), tree: tree.value, hint }, [tree]);
    } catch (error) {
      await tree[Symbol.asyncDispose]();
      throw error;
    }
  }

  get #folder(): ByteString {
    return `${this.home}/subvolumes`;
  }

  #openFolder(): sys.OwnedFd {
    return sys.open(this.#folder, OPEN_DIRECTORY);
  }

  #quotaOf(id: LayerId): ByteString {
    return `${this.home}/quotas/${id}`;
  }

  /** Makes a sealed layer's subvolume read-only. It is the last step of sealing; who finds it undone does it. */
  async #finish(id: LayerId): Promise<void> {
    const finishing = this.#finishing.get(id) ?? this.#makeReadOnly(id);
    this.#finishing.set(id, finishing);
    try {
      await finishing;
    } finally {
      this.#finishing.delete(id);
    }
  }

  async #makeReadOnly(id: LayerId): Promise<void> {
    using root = sys.open(this.treeOf(id), OPEN_DIRECTORY);
    if (isReadOnlySubvolume(root.fd)) return;
    await absorbSubvolumes(root.fd);
    await setSubvolumeReadOnly(root.fd, true);
  }

  /**
   * A read-only snapshot of a layer that may be written to, while it is used; the layer itself where that would lose
   * something, or cost too much.
   */
  async #frozen(id: LayerId): Promise<Use<ByteString>> {
    const tree = this.treeOf(id);
    using source = sys.open(tree, OPEN_DIRECTORY);
    if (this.#settings.unprivileged !== undefined || subvolumesIn(source.fd).length > 0) return freeUse(tree);
    const hex = randomBytes(4).toString("hex");
    const name = aside(id, "diffing", hex);
    // As of a creation: `reclaim` leaves the snapshot alone while the file is locked.
    const guard = `${this.home}/.lamella/creating-${hex}`;
    const lock = lockFile(guard, "shared");
    const end = async (): Promise<void> => {
      try {
        await this.#remove(name);
      } finally {
        raw.unlinkat(AT_FDCWD, guard);
        lock[Symbol.dispose]();
      }
    };
    try {
      using folder = this.#openFolder();
      await createSnapshot(folder.fd, name, { fd: source.fd, readOnly: true });
      return useUntil(`${this.#folder}/${name}`, end);
    } catch (error) {
      await end();
      throw error;
    }
  }

  /** What is known of a layer's tree (`tree`: where it is read) and its parent's. */
  #hint(id: LayerId, parent: LayerId, tree: ByteString): TreesHint | undefined {
    using layer = sys.open(this.treeOf(id), OPEN_DIRECTORY);
    using below = sys.open(this.treeOf(parent), OPEN_DIRECTORY);
    // Another parent since: equal to the one before, but nothing in it is the same.
    if (subvolumeInfo(layer.fd).parentUuid !== subvolumeInfo(below.fd).uuid) return undefined;
    const clock = clockOf(this.facts(id).more);
    const clone: CloneHint | undefined = clock && { kind: "clone", clock };
    using read = sys.open(tree, OPEN_DIRECTORY);
    const sends = this.#settings.unprivileged === undefined && isReadOnlySubvolume(read.fd);
    return sends ? { kind: "btrfs-send", otherwise: clone } : clone;
  }

  /** Quotas turned off and on again forget all limits. */
  async #renewLimit(id: LayerId): Promise<void> {
    const sizeBytes = Number(readSmallFile(this.#quotaOf(id)));
    if (!(sizeBytes > 0) || this.facts(id).sealed) return;
    using root = sys.open(this.treeOf(id), OPEN_DIRECTORY);
    await turnQuotaOn(root.fd);
    limitSubvolume(root.fd, sizeBytes);
  }

  async #remove(name: string): Promise<void> {
    using folder = this.#openFolder();
    await removeSubvolume(folder.fd, name);
  }
}

function aside(id: string, what: "creating" | "removing" | "diffing", hex: string): string {
  return `.${id}-${what}-${hex}`;
}

function clockOf(facts: LayerFacts["more"]): CloneHint["clock"] | undefined {
  try {
    return parseClockStamp(JSON.parse(facts.get("clock") ?? "null"));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
