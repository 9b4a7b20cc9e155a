/**
 * The driver aufs: every layer a branch in AUFS's form, mounted by the kernel's aufs where there is one, and by overlayfs
 * where there is none, which is nearly everywhere. See ./layout.ts for what lies on disk.
 *
 * The truth of a layer is its branch, always: nothing else is read for its diff or its content. Its marks are
 *
 *     committed              AUFS's (`.wh.NAME`, `.wh..wh..opq`), for good
 *     writable               AUFS's until overlayfs mounts it; from then on overlayfs's, as the branch is its upper directory
 *     on the way             of both kinds (./convert.ts). All that reads a branch knows both, so a crash there hurts nothing;
 *                            what is noted of the layer says `form mixed`, and the next mount or seal goes the rest of the way
 *
 * A branch is turned when it is mounted and turned back when it is committed, not with each unmount: turning takes a walk
 * through the branch, which is for worker threads. A committed branch is a lower layer as it is, between the two trees of marks
 * that say the same to overlayfs (./marks.ts); they are made when it is first needed, and can be made again.
 *
 * What the kernel's aufs does with these branches cannot be seen on kernels without it; only its options are tested.
 *
 * Order within a creation: the branch, then the file in `layers/`, by which the layer exists. A removal takes that file away
 * first. A branch without it is what a crash left.
 */
import { randomBytes } from "node:crypto";
import type { ApplyTarget, ContentSource, DiffSource } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { copyAttributes } from "../../fs/copy-attributes.ts";
import { makeDirectory, writeDurably } from "../../fs/durable-file.ts";
import { lockFile } from "../../fs/locks.ts";
import { kernelAtLeast } from "../../fs/overlay-mount.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { isMarkXattr, type LayerMarks } from "../../overlayfs/layer-marks.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { CreationGuards } from "../creation-guards.ts";
import type { DriverCapabilities, LayerId, LayerUsage, LayerView, OverlayOptions, Use } from "../driver.ts";
import { layerExists } from "../layer-errors.ts";
import { deleteTree, namesIn } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { unmountAt } from "../layer-mounts.ts";
import { LayerRecords } from "../layer-records.ts";
import { overlayOptionStrings } from "../mount-view.ts";
import { writeNewFile } from "../small-file.ts";
import { StackDriver, type ViewOptions } from "../stack-driver.ts";
import { checkNamesInBackground, convertBranchInBackground, writeMarksInBackground } from "../stack-jobs.ts";
import { staleTrials } from "../trial-directory.ts";
import { freeUse } from "../use.ts";
import type { BranchForm } from "./convert.ts";
import { Layout, layersText } from "./layout.ts";
import { aufsMountCalls } from "./mount-options.ts";

/** AUFS stacks so many branches unless it was built for more. Between marks they are well below overlayfs's 500. */
const MOST_BRANCHES = 127;

/** Who mounts the branches. */
export type AufsMounter =
  | { readonly kind: "aufs"; readonly dirperm1: boolean }
  | { readonly kind: "overlay"; readonly options: OverlayOptions };

export interface AufsHost {
  readonly backingFileSystem: string;
  readonly mounter: AufsMounter;
}

export class AufsDriver extends StackDriver {
  readonly name = "aufs";
  readonly capabilities: DriverCapabilities = {
    nativeDiff: true,
    stacks: true,
    maxDepth: MOST_BRANCHES,
    quota: false,
  };
  readonly #layout: Layout;
  readonly #records: LayerRecords;
  readonly #guards: CreationGuards;
  readonly #host: AufsHost;
  readonly #marks: LayerMarks;
  /** What this process is turning or marking, by layer. */
  readonly #busy = new Map<LayerId, Promise<void>>();

  /** The home exists with its folders; see ./factory.ts. */
  constructor(home: ByteString, host: AufsHost) {
    super(home);
    this.#layout = new Layout(home);
    this.#records = new LayerRecords(this.#layout.state("layers"));
    this.#guards = new CreationGuards(this.#layout.state(""));
    this.#host = host;
    const { mounter } = host;
    const userxattr = mounter.kind === "overlay" && mounter.options.userxattr;
    this.#marks = { prefix: userxattr ? "user.overlay." : "trusted.overlay.", marks: "any" };
  }

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    const layout = this.#layout;
    if (options.sizeBytes !== undefined)
      throw new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", "aufs: layers have no size limit", {
        hint: "leave out the size; limit the file system that holds the root instead",
      });
    if (this.exists(id)) throw layerExists(id);
    if (parent !== undefined) {
      this.refuseWritableMount(parent);
      await this.seal(parent);
    }
    const ancestors = parent === undefined ? [] : [parent, ...layout.ancestors(parent)];
    if (ancestors.length >= MOST_BRANCHES)
      throw new LamellaError(
        "failed_precondition",
        "MAX_DEPTH",
        `layer ${id} would be layer ${ancestors.length + 1}: aufs stacks at most ${MOST_BRANCHES}`,
        { hint: "squash the image, or build it in fewer steps" },
      );
    using _ = lockFile(layout.state("lock"), "shared");
    if (this.exists(id)) throw layerExists(id);
    const branch = layout.branch(id);
    const unnamed = layout.layers(`.${id}-creating-${randomBytes(4).toString("hex")}`);
    try {
      sys.mkdirat(AT_FDCWD, branch, 0o755);
    } catch (error) {
      throw hasCode(error, "EEXIST") ? layerExists(id) : error;
    }
    try {
      sys.lchmodat(AT_FDCWD, branch, 0o755);
      if (parent !== undefined)
        copyAttributes(layout.branch(parent), branch, { without: (name) => isMarkXattr(name, this.#marks) });
      writeNewFile(unnamed, layersText(ancestors), 0o644);
      sys.renameToFree(AT_FDCWD, unnamed, AT_FDCWD, layout.layers(id));
    } catch (error) {
      raw.unlinkat(AT_FDCWD, unnamed);
      removeTree(branch);
      throw error;
    }
  }

  async seal(id: LayerId): Promise<void> {
    this.#layout.ancestors(id);
    if (this.isCommitted(id)) return;
    await this.#turn(id, "aufs");
    this.#records.write(id, { ...this.#records.read(id), sealed: true });
  }

  exists(id: LayerId): boolean {
    return this.#layout.exists(id);
  }

  async list(): Promise<readonly LayerId[]> {
    return namesIn(`${this.home}/layers`).filter(isLayerId).sort();
  }

  parentOf(id: LayerId): LayerId | undefined {
    return this.#layout.ancestors(id)[0];
  }

  /** Also rewrites the files of all layers above, the layer's own last: until then nothing has changed for it. */
  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    const layout = this.#layout;
    const below = [parent, ...layout.ancestors(parent)];
    if (below.includes(id))
      throw new LamellaError("invalid_argument", "LAYER_CYCLE", `layer ${parent} stands on layer ${id}`);
    layout.ancestors(id);
    await this.seal(parent);
    const all = await this.list();
    this.uses.unused(id, () => {
      const write = (layer: LayerId, ancestors: readonly LayerId[]): void =>
        writeDurably(layout.layers(layer), layersText(ancestors), { mode: 0o644 });
      for (const other of all) {
        const ancestors = layout.ancestors(other);
        const at = ancestors.indexOf(id);
        if (at >= 0) write(other, [...ancestors.slice(0, at + 1), ...below]);
      }
      write(id, below);
    });
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    this.#layout.ancestors(id);
    return treeUsage(this.#layout.branch(id));
  }

  status(): readonly (readonly [string, string])[] {
    const { backingFileSystem, mounter } = this.#host;
    return [
      ["Root Dir", this.home],
      ["Backing Filesystem", backingFileSystem],
      ["Dirs", String(namesIn(`${this.home}/layers`).filter(isLayerId).length)],
      ["Dirperm1 Supported", String(mounter.kind === "aufs" && mounter.dirperm1)],
    ];
  }

  details(): readonly (readonly [string, string])[] {
    const { mounter } = this.#host;
    if (mounter.kind === "aufs") return [["Mounted By", "aufs"]];
    return [
      ["Mounted By", "overlayfs"],
      ["Overlay Options", overlayOptionStrings(mounter.options).join(",")],
    ];
  }

  override async view(id: LayerId, options: ViewOptions = {}): Promise<Use<LayerView>> {
    return this.#host.mounter.kind === "aufs" ? this.sharedView(id, options) : super.view(id, options);
  }

  async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const lowers = this.#branchesBelow(id);
    return freeUse({ kind: "upper", upper: this.#layout.branch(id), lowers, ...this.#marksFor(id) });
  }

  async applyTarget(id: LayerId): Promise<Use<ApplyTarget>> {
    const lowers = this.#branchesBelow(id);
    const record = this.#records.read(id);
    // AUFS's marks are about to be written.
    if (record.more.has("form")) this.#records.write(id, { ...record, more: new Map([["form", "mixed"]]) });
    return freeUse({ whiteouts: "aufs", root: this.#layout.branch(id), lowers, ...this.#marks });
  }

  async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    return freeUse({ layers: [this.#layout.branch(id), ...this.#branchesBelow(id)], ...this.#marksFor(id) });
  }

  protected override isCommitted(id: LayerId): boolean {
    return this.#records.read(id).sealed;
  }

  protected override mountPointOf(id: LayerId): ByteString {
    return this.#layout.mountPoint(id);
  }

  protected override idOfMountPoint(path: ByteString): string | undefined {
    return /^mnt\/([0-9a-f]{64})$/.exec(path)?.[1];
  }

  protected override async layersOf(id: LayerId, options: ViewOptions): Promise<LayerView> {
    const layout = this.#layout;
    const ancestors = layout.ancestors(id);
    const committed = this.isCommitted(id);
    const readOnly = (options.readOnly ?? false) || committed;
    const branch = layout.branch(id);
    const { mounter } = this.#host;
    if (mounter.kind === "aufs") {
      if (!committed) await this.#turn(id, "aufs");
      if (ancestors.length === 0 && !readOnly) return { kind: "directory", path: branch, readOnly };
      const lowers = this.#branchesBelow(id);
      return readOnly
        ? { kind: "overlay", lowers: [branch, ...lowers], upper: undefined, work: undefined, options: noOptions }
        : { kind: "overlay", lowers, upper: branch, work: undefined, options: noOptions };
    }
    if (!committed && !(readOnly && ancestors.length === 0)) await this.#turn(id, "overlay");
    if (ancestors.length === 0 && !committed) return { kind: "directory", path: branch, readOnly };
    const own = committed ? await this.#markedBranch(id) : { layers: [branch], isLast: false };
    const lowers: ByteString[] = [];
    for (const below of own.isLast ? [] : ancestors) {
      const { layers, isLast } = await this.#markedBranch(below);
      lowers.push(...layers);
      if (isLast) break;
    }
    const { options: mount } = mounter;
    if (readOnly) {
      const all = [...own.layers, ...lowers];
      if (all.length === 1) return { kind: "directory", path: branch, readOnly };
      return { kind: "overlay", lowers: all, upper: undefined, work: undefined, options: mount };
    }
    const work = layout.work(id);
    makeDirectory(work, 0o700);
    const volatile = options.volatile === true && kernelAtLeast(5, 10);
    return { kind: "overlay", lowers, upper: branch, work, options: volatile ? { ...mount, volatile } : mount };
  }

  protected override attach(id: LayerId, view: LayerView, target: ByteString): void {
    const { mounter } = this.#host;
    if (mounter.kind === "overlay" || view.kind === "directory") {
      super.attach(id, view, target);
      return;
    }
    const calls = aufsMountCalls({ writable: view.upper, readOnly: view.lowers, dirperm1: mounter.dirperm1 });
    for (const { flags, data } of calls) sys.mount("none", target, "aufs", flags, data);
  }

  protected override setAside(id: LayerId): () => Promise<void> {
    const layout = this.#layout;
    const aside = `${this.home}/diff/.${id}-removing-${randomBytes(4).toString("hex")}`;
    sys.unlinkat(AT_FDCWD, layout.layers(id));
    sys.renameat2(AT_FDCWD, layout.branch(id), AT_FDCWD, aside);
    this.#records.remove(id);
    return async () => {
      for (const path of [aside, layout.marks(id), layout.work(id)]) await deleteTree(path);
    };
  }

  protected override async reclaimLayers(): Promise<number> {
    const layout = this.#layout;
    const left = staleTrials(this.home);
    {
      using _ = lockFile(layout.state("lock"), "exclusive");
      const isGone = (name: string): boolean => !this.exists(name as LayerId);
      const collect = (folder: ByteString, keep: (name: string) => boolean = () => false): void => {
        for (const name of namesIn(folder)) if (isGone(name) && !keep(name)) left.push(`${folder}/${name}`);
      };
      collect(`${this.home}/diff`);
      collect(`${this.home}/layers`);
      collect(layout.state("layers"));
      collect(layout.state("work"));
      collect(layout.state("marks"), (name) => {
        const hex = /-creating-([0-9a-f]+)$/.exec(name)?.[1];
        return hex !== undefined && this.#guards.isGoing(hex);
      });
      this.#guards.sweep();
    }
    for (const path of left) await deleteTree(path);
    return left.length;
  }

  #branchesBelow(id: LayerId): ByteString[] {
    return this.#layout.ancestors(id).map((below) => this.#layout.branch(below));
  }

  /** What counts in a branch: AUFS's marks are ordinary names to overlayfs while it writes to it. */
  #marksFor(id: LayerId): LayerMarks {
    const isOverlay = this.#records.read(id).more.get("form") === "overlay";
    return isOverlay ? { ...this.#marks, upperMarks: "overlayfs" } : this.#marks;
  }

  /** Does one thing for a layer at a time, in this process. */
  async #alone(id: LayerId, work: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(id);
    const turn = (before ?? Promise.resolve()).catch(() => undefined).then(work);
    this.#busy.set(id, turn);
    try {
      await turn;
    } finally {
      if (this.#busy.get(id) === turn) this.#busy.delete(id);
    }
  }

  /** Gives the marks of a writable branch one form. Errors: failed_precondition when they are not in it, and it is in use. */
  async #turn(id: LayerId, form: BranchForm): Promise<void> {
    const now = (): string => this.#records.read(id).more.get("form") ?? "aufs";
    if (now() === form) return;
    await this.#alone(id, async () => {
      if (now() === form) return;
      const note = (value: string | undefined): void => {
        const more = new Map(value === undefined ? [] : [["form", value]]);
        this.#records.write(id, { ...this.#records.read(id), more });
      };
      const branch = { path: this.#layout.branch(id), lowers: this.#branchesBelow(id), marks: this.#marks };
      if (now() === "overlay") await checkNamesInBackground(branch.path);
      this.uses.unused(id, () => {
        unmountAt(this.mountPointOf(id));
        note("mixed");
      });
      await convertBranchInBackground(branch, form);
      note(form === "aufs" ? undefined : form);
    });
  }

  /** The layers that show a committed branch to overlayfs; `isLast` when there are none further down. */
  async #markedBranch(id: LayerId): Promise<{ readonly layers: readonly ByteString[]; readonly isLast: boolean }> {
    const marks = this.#layout.marks(id);
    if (!isThere(marks)) {
      await this.#alone(id, async () => {
        if (!isThere(marks)) await this.#writeMarks(id, marks);
      });
    }
    const layers = [`${marks}/above`, this.#layout.branch(id), `${marks}/below`];
    return { layers: layers.filter(isThere), isLast: isThere(`${marks}/opaque`) };
  }

  async #writeMarks(id: LayerId, marks: ByteString): Promise<void> {
    using creation = this.#guards.begin();
    const unnamed = this.#layout.marks(`.${id}-creating-${creation.hex}`);
    try {
      sys.mkdirat(AT_FDCWD, unnamed, 0o700);
      await writeMarksInBackground(this.#layout.branch(id), unnamed, this.#marks.prefix);
      sys.renameToFree(AT_FDCWD, unnamed, AT_FDCWD, marks);
    } catch (error) {
      await deleteTree(unnamed);
      if (!hasCode(error, "EEXIST") || !isThere(marks)) throw error;
    }
  }
}

const noOptions: OverlayOptions = {
  redirectDir: undefined,
  metacopy: undefined,
  index: undefined,
  userxattr: false,
};

function isThere(path: ByteString): boolean {
  return sys.statIfExists(AT_FDCWD, path) !== undefined;
}
