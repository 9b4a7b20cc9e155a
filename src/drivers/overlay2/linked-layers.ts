/**
 * Drivers with Docker's layout of overlay2 (./layout.ts): overlay2 itself, and fuse-overlay. They differ in who stacks the
 * layers, and in what they note of a layer besides.
 *
 * Order within a creation: everything is made in `.<id>-creating-*`, then the name under `l/`, then the parent's `committed`,
 * then one rename gives the layer its name. A crash before the rename leaves a directory `reclaim` deletes, a dangling name
 * under `l/` it deletes too, and at worst a parent committed without a child, which is harmless. What a power cut took of a
 * layer that was never flushed, `mend` gives back.
 * Creations hold `.lamella/lock` shared, for milliseconds; `reclaim` holds it exclusively while it looks around.
 */
import type { ApplyTarget, ContentSource, DiffSource } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { copyAttributes } from "../../fs/copy-attributes.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { isMarkXattr, type LayerMarks } from "../../overlayfs/layer-marks.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { LayerId, LayerUsage, Use } from "../driver.ts";
import { layerExists } from "../layer-errors.ts";
import { deleteTree, namesIn } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { readSmallFile, writeNewFile } from "../small-file.ts";
import { StackDriver } from "../stack-driver.ts";
import { freeUse } from "../use.ts";
import { Layout, newLinkName } from "./layout.ts";

export abstract class LinkedLayersDriver extends StackDriver {
  protected readonly layout: Layout;

  /** The home exists with its folders ({@link linkedFolders}). */
  constructor(home: ByteString) {
    super(home);
    this.layout = new Layout(home);
  }

  // ---- what a driver says ----------------------------------------------------------------------------------------------

  /** How its layers mark what they hide. */
  protected abstract readonly marks: LayerMarks;

  /** Limits what is written to a layer whose folder is being made, with `diff` and perhaps `work` in it. Errors: failed_precondition. */
  protected abstract limit(folder: ByteString, sizeBytes: number): void;

  /** Gives up what `limit` took; called before a folder is deleted, which may be incomplete. */
  protected unlimit(_folder: ByteString): void {
    // Most have no limits.
  }

  /** Content of a new layer's file `options`; undefined for none. */
  protected optionsOfNew(_parent: LayerId | undefined): ByteString | undefined {
    return undefined;
  }

  /** Content of the file `options` of a layer that is about to stand on `parent`, too. */
  protected optionsAbove(_id: LayerId, _parent: LayerId): ByteString | undefined {
    return undefined;
  }

  // ---- what follows ----------------------------------------------------------------------------------------------------

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    const { layout } = this;
    if (parent !== undefined) this.refuseWritableMount(parent);
    const lowers = this.#lowersOn(parent);
    const { maxDepth } = this.capabilities;
    if (lowers.length >= maxDepth)
      throw new LamellaError(
        "failed_precondition",
        "MAX_DEPTH",
        `layer ${id} would be layer ${lowers.length + 1}: ${this.name} stacks at most ${maxDepth}`,
        { hint: "squash the image, or build it in fewer steps" },
      );
    using _ = layout.lock("shared");
    if (this.exists(id)) throw layerExists(id);
    const building = layout.aside(id, "creating");
    const link = newLinkName();
    sys.mkdirat(AT_FDCWD, building, 0o710);
    try {
      sys.mkdirat(AT_FDCWD, `${building}/diff`, 0o755);
      sys.lchmodat(AT_FDCWD, `${building}/diff`, 0o755);
      writeNewFile(`${building}/link`, link, 0o644);
      const content = this.optionsOfNew(parent);
      if (content !== undefined) writeNewFile(`${building}/options`, content, 0o644);
      if (parent !== undefined) {
        writeNewFile(`${building}/lower`, lowers.join(":"), 0o644);
        sys.mkdirat(AT_FDCWD, `${building}/work`, 0o700);
        copyAttributes(layout.diff(parent), `${building}/diff`, { without: (name) => isMarkXattr(name, this.marks) });
      }
      if (options.sizeBytes !== undefined) this.limit(building, options.sizeBytes);
      sys.symlinkat(`../${id}/diff`, AT_FDCWD, `${this.home}/l/${link}`);
      if (parent !== undefined) this.#commit(parent);
      sys.renameToFree(AT_FDCWD, building, AT_FDCWD, layout.layer(id));
    } catch (error) {
      raw.unlinkat(AT_FDCWD, `${this.home}/l/${link}`);
      this.unlimit(building);
      removeTree(building);
      throw hasCode(error, "EEXIST") ? layerExists(id) : error;
    }
  }

  async seal(id: LayerId): Promise<void> {
    this.layout.link(id);
    this.#commit(id);
  }

  /**
   * One rename gives a layer its name, and file systems that keep a journal keep the order of names; only what is in new files,
   * and the name under `l/`, may be missing after it.
   */
  async mend(id: LayerId, parent: LayerId | undefined): Promise<boolean> {
    const { layout } = this;
    if (!this.exists(id)) {
      await this.create(id, parent);
      return true;
    }
    let isMended = false;
    const give = (name: string, content: ByteString): void => {
      const path = `${layout.layer(id)}/${name}`;
      if ((readSmallFile(path) ?? "") !== "") return;
      writeDurably(path, content, { mode: 0o644 });
      isMended = true;
    };
    give("link", newLinkName());
    const name = `l/${layout.link(id)}`;
    if (layout.idOfName(name) !== id) {
      sys.unlinkIfExists(AT_FDCWD, `${this.home}/${name}`);
      sys.symlinkat(`../${id}/diff`, AT_FDCWD, `${this.home}/${name}`);
      isMended = true;
    }
    const content = this.optionsOfNew(parent);
    if (content !== undefined) give("options", content);
    if (parent === undefined) return isMended;
    give("lower", this.#lowersOn(parent).join(":"));
    this.#commit(parent);
    return isMended;
  }

  exists(id: LayerId): boolean {
    return this.layout.exists(id);
  }

  async list(): Promise<readonly LayerId[]> {
    return this.layout.list();
  }

  parentOf(id: LayerId): LayerId | undefined {
    const name = this.layout.lowerNames(id)[0];
    return name === undefined ? undefined : this.layout.ancestors(id)[0];
  }

  /** Also rewrites the `lower` of everything built on the layer, the layer's own last: until then nothing has changed for it. */
  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    const { layout } = this;
    const own = `l/${layout.link(id)}`;
    const lowers = this.#lowersOn(parent);
    if (lowers.includes(own))
      throw new LamellaError("invalid_argument", "LAYER_CYCLE", `layer ${parent} stands on layer ${id}`);
    this.uses.unused(id, () => {
      this.#commit(parent);
      for (const other of namesIn(this.home).filter(isLayerId)) {
        const text = other === id ? undefined : readSmallFile(`${layout.layer(other)}/lower`);
        if (text === undefined || !text.includes(own)) continue;
        const names = text.split(":");
        const above = names.slice(0, names.indexOf(own) + 1);
        this.#rewrite(other, "options", this.optionsAbove(other, parent));
        this.#rewrite(other, "lower", [...above, ...lowers].join(":"));
      }
      this.#rewrite(id, "options", this.optionsAbove(id, parent));
      this.#rewrite(id, "lower", lowers.join(":"));
    });
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    this.layout.link(id);
    return treeUsage(this.layout.layer(id));
  }

  async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const upper = this.layout.diff(id);
    return freeUse({ kind: "upper", upper, lowers: this.#lowerDirectories(id), ...this.marks });
  }

  async applyTarget(id: LayerId): Promise<Use<ApplyTarget>> {
    const root = this.layout.diff(id);
    return freeUse({ whiteouts: "overlay", root, lowers: this.#lowerDirectories(id), ...this.marks });
  }

  async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    const layers = [this.layout.diff(id), ...this.#lowerDirectories(id)];
    return freeUse({ layers, ...this.marks });
  }

  protected override isCommitted(id: LayerId): boolean {
    return this.layout.isCommitted(id);
  }

  protected override mountPointOf(id: LayerId): ByteString {
    return this.layout.merged(id);
  }

  protected override idOfMountPoint(path: ByteString): string | undefined {
    return /^([0-9a-f]{64})\/merged$/.exec(path)?.[1];
  }

  protected override setAside(id: LayerId): () => Promise<void> {
    const { layout } = this;
    const link = readSmallFile(`${layout.layer(id)}/link`);
    const aside = layout.aside(id, "removing");
    sys.renameat2(AT_FDCWD, layout.layer(id), AT_FDCWD, aside);
    return async () => {
      if (link !== undefined && layout.idOfName(`l/${link}`) === id)
        sys.unlinkIfExists(AT_FDCWD, `${this.home}/l/${link}`);
      await this.#delete(aside);
    };
  }

  protected override async reclaimLayers(): Promise<number> {
    const { layout } = this;
    let asides: readonly ByteString[];
    let count = 0;
    {
      using _ = layout.lock("exclusive");
      asides = layout.asides();
      for (const name of namesIn(`${this.home}/l`)) {
        const target = layout.idOfName(`l/${name}`);
        if (target !== undefined && readSmallFile(`${layout.layer(target)}/link`) === name) continue;
        sys.unlinkIfExists(AT_FDCWD, `${this.home}/l/${name}`);
        count++;
      }
    }
    for (const aside of asides) await this.#delete(aside);
    return count + asides.length;
  }

  async #delete(folder: ByteString): Promise<void> {
    this.unlimit(folder);
    await deleteTree(folder);
  }

  #lowerDirectories(id: LayerId): ByteString[] {
    return this.layout.ancestors(id).map((below) => this.layout.diff(below));
  }

  /** What `lower` of a layer on `parent` names. */
  #lowersOn(parent: LayerId | undefined): string[] {
    return parent === undefined ? [] : [`l/${this.layout.link(parent)}`, ...this.layout.lowerNames(parent)];
  }

  #rewrite(id: LayerId, name: "lower" | "options", content: ByteString | undefined): void {
    const path = `${this.layout.layer(id)}/${name}`;
    if (content !== undefined && readSmallFile(path) !== content) writeDurably(path, content, { mode: 0o644 });
  }

  #commit(id: LayerId): void {
    if (this.layout.isCommitted(id)) return;
    try {
      writeNewFile(`${this.layout.layer(id)}/committed`, "", 0o600);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    }
  }
}
