/**
 * The driver overlay2: every layer a directory of its own, stacked by the kernel's overlayfs. See ./layout.ts for what lies on
 * disk and ./options.ts for how mounts choose their options.
 *
 * Order within a creation: everything is made in `.<id>-creating-*`, then the name under `l/`, then the parent's `committed`,
 * then one rename gives the layer its name. A crash before the rename leaves a directory `reclaim` deletes, a dangling name
 * under `l/` it deletes too, and at worst a parent committed without a child, which is harmless.
 * Creations hold `.lamella/lock` shared, for milliseconds; `reclaim` holds it exclusively while it looks around.
 */
import { randomBytes } from "node:crypto";
import type { ApplyTarget, ContentSource, DiffSource, OverlayXattrPrefix } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { copyAttributes } from "../../fs/copy-attributes.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import { lockFile } from "../../fs/locks.ts";
import { mountAt } from "../../fs/mounts.ts";
import { kernelAtLeast, MAX_LOWERS } from "../../fs/overlay-mount.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { removeTreeInBackground, treeUsage } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY, RENAME_NOREPLACE } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Driver, DriverCapabilities, LayerId, LayerUsage, LayerView, MountedLayer, Use } from "../driver.ts";
import { layerExists } from "../layer-errors.ts";
import { isLayerId } from "../layer-id.ts";
import { joinMount, leftMounts, unmountAt } from "../layer-mounts.ts";
import { LayerUses } from "../layer-uses.ts";
import { mountView, overlayOptionStrings } from "../mount-view.ts";
import { readSmallFile, writeNewFile } from "../small-file.ts";
import { staleTrials } from "../trial-directory.ts";
import { freeUse, useUntil } from "../use.ts";
import { Layout, newLinkName } from "./layout.ts";
import { moduleParameters } from "./module-parameters.ts";
import {
  formatNeeds,
  type LayerNeeds,
  mountOptions,
  type Overlay2Options,
  type OverlayAbilities,
  parseNeeds,
} from "./options.ts";
import { refuseQuota } from "./quota.ts";

/** What a removal deletes at once before it hands the rest to a worker thread. */
const INLINE_ENTRIES = 500;

export interface Overlay2Host {
  readonly abilities: OverlayAbilities;
  readonly backingFileSystem: string;
  readonly supportsDType: boolean;
}

export class Overlay2Driver implements Driver {
  readonly name = "overlay2";
  readonly home: ByteString;
  readonly capabilities: DriverCapabilities = { nativeDiff: true, stacks: true, maxDepth: MAX_LOWERS, quota: false };
  readonly #layout: Layout;
  readonly #host: Overlay2Host;
  readonly #options: Overlay2Options;
  readonly #uses: LayerUses;

  /** The home exists with its folders; see ./factory.ts. */
  constructor(home: ByteString, host: Overlay2Host, options: Overlay2Options) {
    this.home = home;
    this.#layout = new Layout(home);
    this.#host = host;
    this.#options = options;
    this.#uses = new LayerUses(this.#layout.state("mounts"));
  }

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    const sizeBytes = options.sizeBytes ?? this.#options.sizeBytes;
    if (sizeBytes !== undefined) refuseQuota(this.home, this.#host.backingFileSystem);
    if (parent !== undefined && this.#uses.inUse(parent)) this.#refuseWritableMount(parent);
    const lowers = parent === undefined ? [] : [`l/${this.#layout.link(parent)}`, ...this.#layout.lowerNames(parent)];
    if (lowers.length > MAX_LOWERS - 1)
      throw new LamellaError(
        "failed_precondition",
        "MAX_DEPTH",
        `layer ${id} would be layer ${lowers.length + 1}: overlay2 stacks at most ${MAX_LOWERS}`,
        { hint: "squash the image, or build it in fewer steps" },
      );
    using _ = lockFile(this.#layout.state("lock"), "shared");
    if (this.exists(id)) throw layerExists(id);
    const building = this.#aside(id, "creating");
    const link = newLinkName();
    sys.mkdirat(AT_FDCWD, building, 0o710);
    try {
      sys.mkdirat(AT_FDCWD, `${building}/diff`, 0o755);
      sys.lchmodat(AT_FDCWD, `${building}/diff`, 0o755);
      writeNewFile(`${building}/link`, link, 0o644);
      writeNewFile(`${building}/options`, formatNeeds(this.#needsOfNew(parent)), 0o644);
      if (parent !== undefined) {
        writeNewFile(`${building}/lower`, lowers.join(":"), 0o644);
        sys.mkdirat(AT_FDCWD, `${building}/work`, 0o700);
        copyAttributes(this.#layout.diff(parent), `${building}/diff`, { without: this.#prefix });
      }
      sys.symlinkat(`../${id}/diff`, AT_FDCWD, `${this.home}/l/${link}`);
      if (parent !== undefined) this.#commit(parent);
      sys.renameat2(AT_FDCWD, building, AT_FDCWD, this.#layout.layer(id), RENAME_NOREPLACE);
    } catch (error) {
      raw.unlinkat(AT_FDCWD, `${this.home}/l/${link}`);
      removeTree(building);
      throw hasCode(error, "EEXIST") ? layerExists(id) : error;
    }
  }

  async seal(id: LayerId): Promise<void> {
    this.#layout.link(id);
    this.#commit(id);
  }

  exists(id: LayerId): boolean {
    return this.#layout.exists(id);
  }

  async list(): Promise<readonly LayerId[]> {
    return this.#names().filter(isLayerId).sort();
  }

  parentOf(id: LayerId): LayerId | undefined {
    const name = this.#layout.lowerNames(id)[0];
    return name === undefined ? undefined : this.#layout.ancestors(id)[0];
  }

  /** Also rewrites the `lower` of everything built on the layer, the layer's own last: until then nothing has changed for it. */
  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    const own = `l/${this.#layout.link(id)}`;
    const lowers = [`l/${this.#layout.link(parent)}`, ...this.#layout.lowerNames(parent)];
    if (lowers.includes(own))
      throw new LamellaError("invalid_argument", "LAYER_CYCLE", `layer ${parent} stands on layer ${id}`);
    this.#uses.unused(id, () => {
      this.#commit(parent);
      const needs = formatNeeds(union(this.#needs(id), this.#needs(parent)));
      for (const other of this.#names().filter(isLayerId)) {
        const text = other === id ? undefined : readSmallFile(`${this.#layout.layer(other)}/lower`);
        if (text === undefined || !text.includes(own)) continue;
        const names = text.split(":");
        const above = names.slice(0, names.indexOf(own) + 1);
        this.#rewrite(other, "options", formatNeeds(union(this.#needs(other), this.#needs(parent))));
        this.#rewrite(other, "lower", [...above, ...lowers].join(":"));
      }
      this.#rewrite(id, "options", needs);
      this.#rewrite(id, "lower", lowers.join(":"));
    });
  }

  async view(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly volatile?: boolean } = {},
  ): Promise<Use<LayerView>> {
    return freeUse(this.#view(id, options));
  }

  #view(id: LayerId, options: { readonly readOnly?: boolean; readonly volatile?: boolean }): LayerView {
    const { home } = this;
    const diff = this.#layout.diff(id);
    const own = this.#layout.link(id);
    const lowers = this.#layout.lowerNames(id).map((name) => `${home}/${name}`);
    const readOnly = (options.readOnly ?? false) || this.#layout.isCommitted(id);
    if (lowers.length === 0) return { kind: "directory", path: diff, readOnly };
    const mount = mountOptions(this.#needs(id), this.#host.abilities);
    if (!readOnly) {
      const work = `${this.#layout.layer(id)}/work`;
      const volatile = options.volatile === true && kernelAtLeast(5, 10);
      return { kind: "overlay", lowers, upper: diff, work, options: volatile ? { ...mount, volatile } : mount };
    }
    return {
      kind: "overlay",
      lowers: [`${home}/l/${own}`, ...lowers],
      upper: undefined,
      work: undefined,
      options: mount,
    };
  }

  async mount(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly keep?: boolean } = {},
  ): Promise<MountedLayer> {
    const { keep } = options;
    const view = this.#view(id, options);
    const readOnly = view.kind === "directory" ? view.readOnly : view.upper === undefined;
    const target = this.#layout.merged(id);
    // A writable base layer is its own root file system. It is still counted as used.
    const bare = view.kind === "directory" && !readOnly;
    const attach = (): void => void mountView(view, target);
    const use = bare
      ? this.#uses.begin(id, () => undefined, keep === undefined ? {} : { keep })
      : joinMount(this.#uses, id, { target, readOnly, keep, exclusive: !readOnly, attach });
    const ending = useUntil(undefined, () => this.#uses.end(use, () => unmountAt(target)));
    return { path: bare ? view.path : target, readOnly, [Symbol.asyncDispose]: ending[Symbol.asyncDispose] };
  }

  inUse(id: LayerId): boolean {
    return this.#uses.inUse(id);
  }

  async rest(): Promise<void> {
    // No mount is left for the next caller: overlay mounts cost microseconds.
  }

  async unmountAll(id: LayerId): Promise<boolean> {
    return this.#uses.forced(id, () => unmountAt(this.#layout.merged(id)));
  }

  async remove(id: LayerId): Promise<void> {
    if (!this.exists(id)) return;
    const link = readSmallFile(`${this.#layout.layer(id)}/link`);
    const aside = this.#aside(id, "removing");
    this.#uses.unused(id, () => {
      unmountAt(this.#layout.merged(id));
      sys.renameat2(AT_FDCWD, this.#layout.layer(id), AT_FDCWD, aside);
    });
    if (link !== undefined && this.#layout.idOfName(`l/${link}`) === id)
      sys.unlinkIfExists(AT_FDCWD, `${this.home}/l/${link}`);
    await this.#delete(aside);
  }

  async reclaim(): Promise<number> {
    const asides = staleTrials(this.home);
    let count = 0;
    {
      using _ = lockFile(this.#layout.state("lock"), "exclusive");
      for (const name of this.#names())
        if (/^\.[0-9a-f]{64}-(creating|removing)-[0-9a-f]+$/.test(name)) asides.push(`${this.home}/${name}`);
      for (const name of namesOf(`${this.home}/l`)) {
        const target = this.#layout.idOfName(`l/${name}`);
        if (target !== undefined && readSmallFile(`${this.#layout.layer(target)}/link`) === name) continue;
        sys.unlinkIfExists(AT_FDCWD, `${this.home}/l/${name}`);
        count++;
      }
    }
    const idOf = (rest: ByteString): string | undefined => /^([0-9a-f]{64})\/merged$/.exec(rest)?.[1];
    for (const id of leftMounts(this.#uses, `${this.home}/`, idOf)) {
      this.#uses.unused(id, () => unmountAt(this.#layout.merged(id)));
      count++;
    }
    for (const aside of asides) await this.#delete(aside);
    return count + asides.length;
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    this.#layout.link(id);
    return treeUsage(this.#layout.layer(id));
  }

  status(): readonly (readonly [string, string])[] {
    const { abilities, backingFileSystem, supportsDType } = this.#host;
    return [
      ["Backing Filesystem", backingFileSystem],
      ["Supports d_type", String(supportsDType)],
      ["Using metacopy", String(this.#options.metacopy)],
      ["Native Overlay Diff", "true"],
      ["userxattr", String(abilities.userxattr)],
    ];
  }

  details(): readonly (readonly [string, string])[] {
    const options = overlayOptionStrings(mountOptions(this.#options, this.#host.abilities)).join(",");
    return [["Overlay Options", options], ...moduleParameters().map(([k, v]) => [`Module ${k}`, v] as const)];
  }

  async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    const upper = this.#layout.diff(id);
    return freeUse({ kind: "upper", upper, lowers: this.#lowerDirectories(id), prefix: this.#prefix });
  }

  async applyTarget(id: LayerId): Promise<Use<ApplyTarget>> {
    const root = this.#layout.diff(id);
    return freeUse({ whiteouts: "overlay", root, lowers: this.#lowerDirectories(id), prefix: this.#prefix });
  }

  async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    const layers = [this.#layout.diff(id), ...this.#lowerDirectories(id)];
    return freeUse({ layers, prefix: this.#prefix });
  }

  get #prefix(): OverlayXattrPrefix {
    return this.#host.abilities.userxattr ? "user.overlay." : "trusted.overlay.";
  }

  #lowerDirectories(id: LayerId): ByteString[] {
    return this.#layout.ancestors(id).map((below) => this.#layout.diff(below));
  }

  #names(): string[] {
    return namesOf(this.home);
  }

  #aside(id: string, what: "creating" | "removing"): ByteString {
    return `${this.home}/.${id}-${what}-${randomBytes(4).toString("hex")}`;
  }

  #needs(id: LayerId): LayerNeeds {
    return parseNeeds(readSmallFile(`${this.#layout.layer(id)}/options`), this.#host.abilities);
  }

  #needsOfNew(parent: LayerId | undefined): LayerNeeds {
    return parent === undefined ? this.#options : union(this.#options, this.#needs(parent));
  }

  #rewrite(id: LayerId, name: "lower" | "options", content: ByteString): void {
    const path = `${this.#layout.layer(id)}/${name}`;
    if (readSmallFile(path) !== content) writeDurably(path, content, { mode: 0o644 });
  }

  #commit(id: LayerId): void {
    if (this.#layout.isCommitted(id)) return;
    try {
      writeNewFile(`${this.#layout.layer(id)}/committed`, "", 0o600);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    }
  }

  #refuseWritableMount(id: LayerId): void {
    const mounted = mountAt(this.#layout.merged(id));
    if (this.#layout.isCommitted(id) || mounted?.options.includes("ro")) return;
    throw new LamellaError("failed_precondition", "LAYER_IN_USE", `layer ${id} is mounted writable`, {
      hint: "unmount it before making a layer on top of it",
    });
  }

  async #delete(path: ByteString): Promise<void> {
    if (!removeTree(path, { maxEntries: INLINE_ENTRIES })) await removeTreeInBackground(path);
  }
}

function namesOf(path: ByteString): string[] {
  using directory = sys.open(path, O_RDONLY | O_DIRECTORY);
  return sys.readdir(directory.fd).map((entry) => entry.name);
}

function union(a: LayerNeeds, b: LayerNeeds): LayerNeeds {
  return { redirectDir: a.redirectDir || b.redirectDir, metacopy: a.metacopy || b.metacopy };
}
