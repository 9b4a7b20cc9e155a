/**
 * The driver vfs: every layer a full copy of its parent. It needs nothing of the kernel, costs a copy per layer (none of the
 * data where the file system has reflinks), and is never chosen unasked. A manifest taken of each copy tells later what in it
 * is as it was copied, so that a diff looks at one tree and opens what changed.
 *
 *     <home>/                  0710
 *       dir/<id>/                     the layer's whole tree
 *       manifests/<id>                what the tree was when it was copied (docs/formats/tree-manifest.md)
 *       layers/, mnt/, .lamella/      see ../tree-driver.ts
 *       dir/.<id>-creating-<hex>/, dir/.<id>-removing-<hex>/   unfinished creations and removals
 *       manifests/.<id>-creating-<hex>                         the manifest of an unfinished creation
 *
 * Docker's layout has `dir/` alone.
 */
import { randomBytes } from "node:crypto";
import type { TreesSource } from "../../diff/source.ts";
import { writeManifestInBackground } from "../../diff/tree-manifest.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { inheritsProject, type ProjectQuota } from "../../fs/project-quota.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { copyTreeInBackground, removeTreeInBackground, treeUsage } from "../../fs/tree-jobs.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverCapabilities, LayerId, LayerUsage } from "../driver.ts";
import { namesIn } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { type NewTree, TreeDriver } from "../tree-driver.ts";

/** What a removal deletes at once before it hands the rest to a worker thread. */
const INLINE_ENTRIES = 500;

export interface VfsOptions {
  /** Limit of layers made to be written to. */
  readonly sizeBytes: number | undefined;
  /** Docker's word for it: attributes that the file system does not keep are left out, which they always are here. */
  readonly bestEffortXattrs: boolean;
}

export class VfsDriver extends TreeDriver {
  readonly name = "vfs";
  readonly capabilities: DriverCapabilities;
  readonly writableSizeBytes: number | undefined;
  readonly #quota: ProjectQuota | string;
  readonly #bestEffortXattrs: boolean;

  /** `quota`: the home's, or why it has none. */
  constructor(home: ByteString, options: VfsOptions, quota: ProjectQuota | string) {
    super(home);
    const maxDepth = Number.POSITIVE_INFINITY;
    this.capabilities = { nativeDiff: true, stacks: false, maxDepth, quota: typeof quota !== "string" };
    this.writableSizeBytes = options.sizeBytes;
    this.#quota = quota;
    this.#bestEffortXattrs = options.bestEffortXattrs;
  }

  protected treeOf(id: LayerId): ByteString {
    return `${this.home}/dir/${id}`;
  }

  protected hasTree(id: LayerId): boolean {
    return sys.statIfExists(AT_FDCWD, this.treeOf(id)) !== undefined;
  }

  protected treeNames(): readonly string[] {
    return namesIn(`${this.home}/dir`);
  }

  protected async makeTree(tree: NewTree): Promise<ReadonlyMap<string, ByteString>> {
    const building = this.#building(tree);
    sys.mkdirat(AT_FDCWD, building, 0o755);
    sys.lchmodat(AT_FDCWD, building, 0o755);
    if (tree.sizeBytes !== undefined) this.#limit(building, tree.sizeBytes);
    if (tree.parent !== undefined) {
      await copyTreeInBackground(this.treeOf(tree.parent), building);
      await writeManifestInBackground(building, this.#manifestInTheMaking(tree));
    }
    return new Map();
  }

  protected placeTree(tree: NewTree): void {
    sys.renameToFree(AT_FDCWD, this.#building(tree), AT_FDCWD, this.treeOf(tree.id));
    // After the tree, so that it is no other layer's. Without it the trees would be compared whole.
    if (tree.parent !== undefined)
      sys.renameat2(AT_FDCWD, this.#manifestInTheMaking(tree), AT_FDCWD, this.#manifest(tree.id));
  }

  protected async abandonTree(tree: NewTree): Promise<void> {
    const building = this.#building(tree);
    if (tree.sizeBytes !== undefined) this.#release(building);
    removeTree(building);
    sys.unlinkIfExists(AT_FDCWD, this.#manifestInTheMaking(tree));
  }

  protected setTreeAside(id: LayerId): () => Promise<void> {
    const aside = this.#aside(id, "removing", randomBytes(4).toString("hex"));
    sys.renameat2(AT_FDCWD, this.treeOf(id), AT_FDCWD, aside);
    sys.unlinkIfExists(AT_FDCWD, this.#manifest(id));
    return () => this.#delete(aside);
  }

  protected override hintOf(id: LayerId): TreesSource["hint"] {
    return { kind: "manifest", path: this.#manifest(id) };
  }

  protected async reclaimTrees(isGoing: (hex: string) => boolean): Promise<number> {
    let count = 0;
    for (const name of this.treeNames()) {
      const hex = /^\.[0-9a-f]{64}-(?:creating|removing)-([0-9a-f]+)$/.exec(name)?.[1];
      if (hex === undefined || isGoing(hex)) continue;
      await this.#delete(`${this.home}/dir/${name}`);
      count++;
    }
    for (const name of namesIn(`${this.home}/manifests`)) {
      const hex = /^\.[0-9a-f]{64}-creating-([0-9a-f]+)$/.exec(name)?.[1];
      if (hex === undefined ? isLayerId(name) && this.hasTree(name) : isGoing(hex)) continue;
      sys.unlinkIfExists(AT_FDCWD, `${this.home}/manifests/${name}`);
      count++;
    }
    return count;
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    this.facts(id);
    return treeUsage(this.treeOf(id));
  }

  status(): readonly (readonly [string, string])[] {
    return this.#bestEffortXattrs ? [["Extended file attributes", "best-effort"]] : [];
  }

  #building(tree: NewTree): ByteString {
    return this.#aside(tree.id, "creating", tree.hex);
  }

  #manifest(id: LayerId): ByteString {
    return `${this.home}/manifests/${id}`;
  }

  #manifestInTheMaking({ id, hex }: NewTree): ByteString {
    return `${this.home}/manifests/.${id}-creating-${hex}`;
  }

  #aside(id: string, what: "creating" | "removing", hex: string): ByteString {
    return `${this.home}/dir/.${id}-${what}-${hex}`;
  }

  /** What the copy of the parent takes counts too, as it does in Docker. */
  #limit(building: ByteString, sizeBytes: number): void {
    if (typeof this.#quota === "string") throw noQuota(this.#quota);
    const folder = `${this.home}/dir`;
    // The kernel would not let the layer have its name: a directory with one project, renamed into one with another.
    if (inheritsProject(folder)) throw noQuota(`${textOfBytes(folder)} hands its project on to all that is made in it`);
    this.#quota.limit([building], sizeBytes);
  }

  #release(path: ByteString): void {
    if (typeof this.#quota !== "string") this.#quota.release(path);
  }

  async #delete(path: ByteString): Promise<void> {
    this.#release(path);
    if (!removeTree(path, { maxEntries: INLINE_ENTRIES })) await removeTreeInBackground(path);
  }
}

/** In Docker's words. */
export function noQuota(reason: string): LamellaError {
  const message = "Filesystem does not support, or has not enabled quotas";
  return new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", message, {
    hint: `${reason}; leave out the size, or put the root on xfs with \`pquota\` or ext4 with \`prjquota\``,
  });
}
