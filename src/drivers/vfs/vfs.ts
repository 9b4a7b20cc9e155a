/**
 * The driver vfs: every layer a full copy of its parent. It needs nothing of the kernel, costs a copy per layer (none of the
 * data where the file system has reflinks), and is never chosen unasked.
 *
 *     <home>/                  0710
 *       dir/<id>/                     the layer's whole tree
 *       layers/, mnt/, .lamella/      see ../tree-driver.ts
 *       dir/.<id>-creating-<hex>/, dir/.<id>-removing-<hex>/   unfinished creations and removals
 *
 * Docker's layout has `dir/` alone.
 */
import { randomBytes } from "node:crypto";
import { LamellaError } from "../../errors/lamella-error.ts";
import { inheritsProject, type ProjectQuota } from "../../fs/project-quota.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { copyTreeInBackground, removeTreeInBackground, treeUsage } from "../../fs/tree-jobs.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY, RENAME_NOREPLACE } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverCapabilities, LayerId, LayerUsage } from "../driver.ts";
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
    this.capabilities = { nativeDiff: false, stacks: false, maxDepth, quota: typeof quota !== "string" };
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
    using directory = sys.open(`${this.home}/dir`, O_RDONLY | O_DIRECTORY);
    return sys.readdir(directory.fd).map((entry) => entry.name);
  }

  protected async makeTree(tree: NewTree): Promise<ReadonlyMap<string, ByteString>> {
    const building = this.#building(tree);
    sys.mkdirat(AT_FDCWD, building, 0o755);
    sys.lchmodat(AT_FDCWD, building, 0o755);
    if (tree.sizeBytes !== undefined) this.#limit(building, tree.sizeBytes);
    if (tree.parent !== undefined) await copyTreeInBackground(this.treeOf(tree.parent), building);
    return new Map();
  }

  protected placeTree(tree: NewTree): void {
    sys.renameat2(AT_FDCWD, this.#building(tree), AT_FDCWD, this.treeOf(tree.id), RENAME_NOREPLACE);
  }

  protected async abandonTree(tree: NewTree): Promise<void> {
    const building = this.#building(tree);
    if (tree.sizeBytes !== undefined) this.#release(building);
    removeTree(building);
  }

  protected setTreeAside(id: LayerId): () => Promise<void> {
    const aside = this.#aside(id, "removing", randomBytes(4).toString("hex"));
    sys.renameat2(AT_FDCWD, this.treeOf(id), AT_FDCWD, aside);
    return () => this.#delete(aside);
  }

  protected async reclaimTrees(isGoing: (hex: string) => boolean): Promise<number> {
    let count = 0;
    for (const name of this.treeNames()) {
      const hex = /^\.[0-9a-f]{64}-(?:creating|removing)-([0-9a-f]+)$/.exec(name)?.[1];
      if (hex === undefined || isGoing(hex)) continue;
      await this.#delete(`${this.home}/dir/${name}`);
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
