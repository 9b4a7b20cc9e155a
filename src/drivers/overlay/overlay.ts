/**
 * The driver overlay: layers that are read are whole trees of hard links, layers that are written an upper directory over the
 * parent's tree. It costs an inode for each directory of each layer and a name for each file, but nothing of the data; a
 * mount has one lower directory, however many layers there are. See ./layout.ts for what lies on disk.
 *
 * The law of the trees: an object that a tree shares with another is never written to, and none of its attributes changed. It
 * is replaced by another in one tree, or loses its name there. Directories are never shared.
 *
 * A layer's tree is made when the first child is made on it: as hard links of its parent's tree, on which the upper's changes
 * are then carried out; the upper stays, and the layer's diff is read from it alone. A tar is unpacked into such a tree of
 * hard links, in place. Trees come into being under another name, and one rename makes them count; before it, a crash leaves
 * the layer as it was, and a directory that `reclaim` deletes.
 *
 * A layer with a tree of its own that is not committed yet may still be mounted writable: then it is written to over its own
 * tree (`over`), and what was written is carried out on that tree before anything else is made of the layer. Should a crash
 * interrupt that, it is done again from the start, which comes to the same.
 */
import type { ApplyTarget, ContentSource, DiffSource, UpperSource } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { copyAttributes } from "../../fs/copy-attributes.ts";
import { makeDirectory, writeDurably } from "../../fs/durable-file.ts";
import { flushFileSystem } from "../../fs/flush.ts";
import { kernelAtLeast } from "../../fs/overlay-mount.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { linkTreeInBackground, treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { isMarkXattr, type LayerMarks } from "../../overlayfs/layer-marks.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { CreationGuards } from "../creation-guards.ts";
import type { DriverCapabilities, LayerId, LayerUsage, LayerView, OverlayOptions, Use } from "../driver.ts";
import { layerExists, noSuchLayer } from "../layer-errors.ts";
import { deleteTree } from "../layer-folders.ts";
import { unmountAt } from "../layer-mounts.ts";
import { overlayOptionStrings } from "../mount-view.ts";
import { mountOptions } from "../overlay2/options.ts";
import type { Overlay2Host } from "../overlay2/overlay2.ts";
import { readSmallFile, writeNewFile } from "../small-file.ts";
import { StackDriver, type ViewOptions } from "../stack-driver.ts";
import { carryOutInBackground, ownUsage } from "../stack-jobs.ts";
import { freeUse } from "../use.ts";
import { Layout } from "./layout.ts";

export class OverlayDriver extends StackDriver {
  readonly name = "overlay";
  readonly capabilities: DriverCapabilities = {
    nativeDiff: true,
    stacks: false,
    maxDepth: Number.POSITIVE_INFINITY,
    quota: false,
  };
  readonly #layout: Layout;
  readonly #host: Overlay2Host;
  readonly #guards: CreationGuards;
  readonly #marks: LayerMarks;
  /** Neither redirects nor metacopies are written: a tree of hard links has none. */
  readonly #mountOptions: OverlayOptions;
  /** Trees that this process is making, by layer. */
  readonly #making = new Map<LayerId, Promise<void>>();

  /** The home exists with its folders; see ./factory.ts. */
  constructor(home: ByteString, host: Overlay2Host) {
    super(home);
    this.#layout = new Layout(home);
    this.#guards = new CreationGuards(this.#layout.state(""));
    this.#host = host;
    this.#marks = { prefix: host.abilities.userxattr ? "user.overlay." : "trusted.overlay." };
    this.#mountOptions = mountOptions({ redirectDir: false, metacopy: false }, host.abilities);
  }

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    const layout = this.#layout;
    if (options.sizeBytes !== undefined)
      throw new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", "overlay: layers have no size limit", {
        hint: "leave out the size; limit the file system that holds the root instead",
      });
    if (this.exists(id)) throw layerExists(id);
    if (parent !== undefined) {
      this.refuseWritableMount(parent);
      await this.seal(parent);
      await this.#ensureRoot(parent);
    }
    using _ = layout.lock("shared");
    if (this.exists(id)) throw layerExists(id);
    const building = layout.aside(id, "creating");
    sys.mkdirat(AT_FDCWD, building, 0o710);
    try {
      if (parent === undefined) {
        sys.mkdirat(AT_FDCWD, `${building}/root`, 0o755);
        sys.lchmodat(AT_FDCWD, `${building}/root`, 0o755);
      } else {
        makeUpper(`${building}/upper`, layout.root(parent), this.#marks);
        sys.mkdirat(AT_FDCWD, `${building}/work`, 0o700);
        writeNewFile(`${building}/lower-id`, parent, 0o644);
      }
      sys.renameToFree(AT_FDCWD, building, AT_FDCWD, layout.layer(id));
    } catch (error) {
      removeTree(building);
      throw hasCode(error, "EEXIST") ? layerExists(id) : error;
    }
  }

  async seal(id: LayerId): Promise<void> {
    const layout = this.#layout;
    if (!layout.exists(id)) throw noSuchLayer(id, this.home);
    if (layout.isCommitted(id)) return;
    await this.#fold(id);
    try {
      writeNewFile(`${layout.layer(id)}/committed`, layout.hasRoot(id) ? "" : "upper", 0o600);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    }
  }

  /**
   * File systems that keep a journal keep the order of names, and so a tree of hard links is whole when it has its name. What a
   * power cut leaves of a layer that was never flushed may lack what is in new files: `lower-id`.
   */
  async mend(id: LayerId, parent: LayerId | undefined): Promise<boolean> {
    if (!this.exists(id)) {
      await this.create(id, parent);
      return true;
    }
    if (parent === undefined) return false;
    await this.seal(parent);
    await this.#ensureRoot(parent);
    const path = `${this.#layout.layer(id)}/lower-id`;
    if ((readSmallFile(path) ?? "") !== "") return false;
    writeDurably(path, parent, { mode: 0o644 });
    return true;
  }

  exists(id: LayerId): boolean {
    return this.#layout.exists(id);
  }

  async list(): Promise<readonly LayerId[]> {
    return this.#layout.list();
  }

  parentOf(id: LayerId): LayerId | undefined {
    return this.#layout.parentOf(id);
  }

  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    const layout = this.#layout;
    layout.parentOf(id);
    await this.seal(parent);
    await this.#ensureRoot(parent);
    this.uses.unused(id, () => writeDurably(`${layout.layer(id)}/lower-id`, parent, { mode: 0o644 }));
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    const layout = this.#layout;
    const parent = layout.parentOf(id);
    if (parent === undefined || !layout.hasRoot(id)) return treeUsage(layout.layer(id));
    return ownUsage(layout.layer(id), layout.root(parent));
  }

  status(): readonly (readonly [string, string])[] {
    return [
      ["Backing Filesystem", this.#host.backingFileSystem],
      ["Supports d_type", String(this.#host.supportsDType)],
    ];
  }

  details(): readonly (readonly [string, string])[] {
    return [["Overlay Options", overlayOptionStrings(this.#mountOptions).join(",")]];
  }

  async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const layout = this.#layout;
    const parent = layout.parentOf(id);
    if (parent === undefined) return freeUse({ kind: "trees", parent: undefined, tree: layout.root(id) });
    if (layout.isUpper(id))
      return freeUse({ kind: "upper", upper: layout.upper(id), lowers: [layout.root(parent)], ...this.#marks });
    const trees = { kind: "trees", parent: layout.root(parent) } as const;
    // While somebody writes to it, what it is can be seen through its mount alone.
    if (layout.hasOver(id) && this.inUse(id)) {
      const mounted = await this.mount(id);
      return { value: { ...trees, tree: mounted.path }, [Symbol.asyncDispose]: mounted[Symbol.asyncDispose] };
    }
    await this.#fold(id);
    return freeUse({ ...trees, tree: layout.root(id), hint: { kind: "inode" } });
  }

  async applyTarget(id: LayerId): Promise<Use<ApplyTarget>> {
    const layout = this.#layout;
    layout.parentOf(id);
    if (!layout.hasRoot(id)) this.uses.unused(id, () => unmountAt(layout.merged(id)));
    await this.#fold(id);
    await this.#ensureRoot(id);
    return freeUse({ whiteouts: "remove", root: layout.root(id), lowers: [], ...this.#marks });
  }

  async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    const layout = this.#layout;
    const parent = layout.parentOf(id);
    const layers: ByteString[] = [];
    if (layout.hasOver(id)) layers.push(layout.over(id));
    if (layout.hasRoot(id)) layers.push(layout.root(id));
    else if (parent !== undefined) layers.push(layout.upper(id), layout.root(parent));
    return freeUse({ layers, ...this.#marks });
  }

  protected override isCommitted(id: LayerId): boolean {
    return this.#layout.isCommitted(id);
  }

  protected override mountPointOf(id: LayerId): ByteString {
    return this.#layout.merged(id);
  }

  protected override idOfMountPoint(path: ByteString): string | undefined {
    return /^([0-9a-f]{64})\/merged$/.exec(path)?.[1];
  }

  protected override async layersOf(id: LayerId, options: ViewOptions): Promise<LayerView> {
    const layout = this.#layout;
    const parent = layout.parentOf(id);
    const readOnly = (options.readOnly ?? false) || layout.isCommitted(id);
    const own = layout.hasRoot(id) ? layout.root(id) : undefined;
    if (own !== undefined && (parent === undefined || (readOnly && !layout.hasOver(id))))
      return { kind: "directory", path: own, readOnly };
    const lower = own ?? layout.root(parent ?? "");
    const upper = own === undefined ? layout.upper(id) : layout.over(id);
    const mount = this.#mountOptions;
    if (readOnly) return { kind: "overlay", lowers: [upper, lower], upper: undefined, work: undefined, options: mount };
    const work = `${layout.layer(id)}/work`;
    if (own !== undefined && !layout.hasOver(id)) {
      makeDirectory(work, 0o700);
      makeUpper(upper, own, this.#marks);
    }
    const volatile = options.volatile === true && kernelAtLeast(5, 10);
    return { kind: "overlay", lowers: [lower], upper, work, options: volatile ? { ...mount, volatile } : mount };
  }

  protected override setAside(id: LayerId): () => Promise<void> {
    const aside = this.#layout.aside(id, "removing");
    sys.renameat2(AT_FDCWD, this.#layout.layer(id), AT_FDCWD, aside);
    return () => deleteTree(aside);
  }

  protected override async reclaimLayers(): Promise<number> {
    const layout = this.#layout;
    let left: ByteString[];
    {
      using _ = layout.lock("exclusive");
      left = layout.asides();
    }
    for (const { path, hex } of layout.tmproots()) if (!this.#guards.isGoing(hex)) left.push(path);
    this.#guards.sweep();
    for (const path of left) await deleteTree(path);
    return left.length;
  }

  /** Gives a layer a tree of its own. */
  async #ensureRoot(id: LayerId): Promise<void> {
    if (this.#layout.hasRoot(id)) return;
    let making = this.#making.get(id);
    if (making === undefined) {
      making = this.#makeRoot(id).finally(() => this.#making.delete(id));
      this.#making.set(id, making);
    }
    await making;
  }

  async #makeRoot(id: LayerId): Promise<void> {
    const layout = this.#layout;
    const parent = layout.parentOf(id);
    if (parent === undefined) return;
    await this.#ensureRoot(parent);
    using creation = this.#guards.begin();
    const tree = `${layout.layer(id)}/tmproot-${creation.hex}`;
    try {
      sys.mkdirat(AT_FDCWD, tree, 0o700);
      const { copied } = await linkTreeInBackground(layout.root(parent), tree);
      await carryOutInBackground(this.#upperSource(layout.upper(id), layout.root(parent)), tree);
      // Names are made in the journal's order; data that was copied must be there before the tree counts.
      if (copied > 0) await flushFileSystem(tree);
      sys.renameToFree(AT_FDCWD, tree, AT_FDCWD, layout.root(id));
      // A tar is about to be unpacked: from now on the tree alone tells what the layer is.
      if (!layout.isCommitted(id))
        for (const name of ["upper", "work"]) await deleteTree(`${layout.layer(id)}/${name}`);
    } catch (error) {
      await deleteTree(tree);
      if (!hasCode(error, "EEXIST") || !layout.hasRoot(id)) throw error;
    }
  }

  /** Carries out on a layer's own tree what was written over it. Errors: failed_precondition when it is in use. */
  async #fold(id: LayerId): Promise<void> {
    const layout = this.#layout;
    if (!layout.hasOver(id)) return;
    this.uses.unused(id, () => unmountAt(layout.merged(id)));
    await carryOutInBackground(this.#upperSource(layout.over(id), layout.root(id)), layout.root(id));
    const aside = layout.aside(id, "removing");
    sys.renameat2(AT_FDCWD, layout.over(id), AT_FDCWD, aside);
    await deleteTree(aside);
    removeTree(`${layout.layer(id)}/work`);
  }

  #upperSource(upper: ByteString, lower: ByteString): UpperSource {
    return { kind: "upper", upper, lowers: [lower], ...this.#marks };
  }
}

function makeUpper(upper: ByteString, lower: ByteString, marks: LayerMarks): void {
  sys.mkdirat(AT_FDCWD, upper, 0o755);
  copyAttributes(lower, upper, { without: (name) => isMarkXattr(name, marks) });
}
