/**
 * What the drivers have in common whose layers are directories that a union file system shows as one: mounts, and the end of
 * a layer. A driver says where its layers lie and what a layer is mounted from; whoever mounts a view may do so by himself,
 * unless the union file system is a process that has to be started (`sharedView`).
 *
 *     <home>/.lamella/mounts/      who uses which mount (./layer-uses.ts)
 */
import type { ApplyTarget, ContentSource, DiffSource } from "../diff/source.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { detachedBind, mountAt } from "../fs/mounts.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { Driver, DriverCapabilities, LayerId, LayerUsage, LayerView, MountedLayer, Use } from "./driver.ts";
import { isInUse, joinMount, leftMounts, unmountAt } from "./layer-mounts.ts";
import { LayerUses } from "./layer-uses.ts";
import { mountView } from "./mount-view.ts";
import { freeUse, useOf, useUntil } from "./use.ts";

/** How a layer is to be seen; see Driver.view. */
export interface ViewOptions {
  readonly readOnly?: boolean;
  readonly volatile?: boolean;
}

export abstract class StackDriver implements Driver {
  abstract readonly name: string;
  abstract readonly capabilities: DriverCapabilities;
  readonly home: ByteString;
  protected readonly uses: LayerUses;

  /** The home exists with its folders. */
  constructor(home: ByteString) {
    this.home = home;
    this.uses = new LayerUses(`${home}/.lamella/mounts`);
  }

  // ---- what a driver says ----------------------------------------------------------------------------------------------

  abstract create(id: LayerId, parent: LayerId | undefined, options?: { readonly sizeBytes?: number }): Promise<void>;
  abstract seal(id: LayerId): Promise<void>;
  abstract exists(id: LayerId): boolean;
  abstract list(): Promise<readonly LayerId[]>;
  abstract parentOf(id: LayerId): LayerId | undefined;
  abstract reparent(id: LayerId, parent: LayerId): Promise<void>;
  abstract usage(id: LayerId): Promise<LayerUsage>;
  abstract status(): readonly (readonly [string, string])[];
  abstract details(): readonly (readonly [string, string])[];
  abstract diffSource(id: LayerId): Promise<Use<DiffSource>>;
  abstract applyTarget(id: LayerId): Promise<Use<ApplyTarget>>;
  abstract contentSource(id: LayerId): Promise<Use<ContentSource>>;

  /** True when the layer is read-only for ever. */
  protected abstract isCommitted(id: LayerId): boolean;

  /** Where a layer is mounted, below the home. */
  protected abstract mountPointOf(id: LayerId): ByteString;

  /** The layer that a mount point belongs to, given its path below the home. */
  protected abstract idOfMountPoint(path: ByteString): string | undefined;

  /** What a layer is mounted from, all of it ready to be mounted. Errors: not_found. */
  protected abstract layersOf(id: LayerId, options: ViewOptions): Promise<LayerView>;

  /** In one step, makes a layer that nobody uses cease to exist; what it answers deletes it. */
  protected abstract setAside(id: LayerId): () => Promise<void>;

  /** Deletes what crashed creations and removals left. Returns the number of things. */
  protected abstract reclaimLayers(): Promise<number>;

  /** Mounts at the directory `target` what `layersOf` answered. Synchronous. */
  protected attach(_id: LayerId, view: LayerView, target: ByteString): void {
    mountView(view, target);
  }

  // ---- what follows ----------------------------------------------------------------------------------------------------

  async view(id: LayerId, options: ViewOptions = {}): Promise<Use<LayerView>> {
    return freeUse(await this.layersOf(id, options));
  }

  /** A view for a union file system that only this driver can mount: a detached copy of its mount, which many share. */
  protected async sharedView(id: LayerId, options: ViewOptions): Promise<Use<LayerView>> {
    const layers = await this.layersOf(id, options);
    if (layers.kind === "directory") return freeUse(layers);
    const readOnly = layers.upper === undefined;
    const mounted = this.#join(id, layers, { readOnly });
    try {
      const clone = detachedBind(mounted.path, { readOnly });
      const view: LayerView = { kind: "directory", path: mounted.path, readOnly, mountFd: clone.fd };
      return useOf(view, [mounted, useUntil(undefined, () => clone[Symbol.dispose]())]);
    } catch (error) {
      await mounted[Symbol.asyncDispose]();
      throw error;
    }
  }

  async mount(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly keep?: boolean } = {},
  ): Promise<MountedLayer> {
    const layers = await this.layersOf(id, options);
    const readOnly = layers.kind === "directory" ? layers.readOnly : layers.upper === undefined;
    return this.#join(id, layers, { readOnly, keep: options.keep });
  }

  #join(
    id: LayerId,
    layers: LayerView,
    { readOnly, keep }: { readonly readOnly: boolean; readonly keep?: boolean | undefined },
  ): MountedLayer {
    const target = this.mountPointOf(id);
    // A writable base layer is its own root file system. It is still counted as used.
    const bare = layers.kind === "directory" && !readOnly;
    const attach = (): void => this.attach(id, layers, target);
    const use = bare
      ? this.uses.begin(id, () => undefined, keep === undefined ? {} : { keep })
      : joinMount(this.uses, id, { target, readOnly, keep, exclusive: !readOnly, attach });
    const ending = useUntil(undefined, () => this.uses.end(use, () => unmountAt(target)));
    return { path: bare ? layers.path : target, readOnly, [Symbol.asyncDispose]: ending[Symbol.asyncDispose] };
  }

  inUse(id: LayerId): boolean {
    return isInUse(this.uses, id, this.mountPointOf(id));
  }

  async unmountAll(id: LayerId): Promise<boolean> {
    return this.uses.forced(id, () => unmountAt(this.mountPointOf(id)));
  }

  async rest(): Promise<void> {
    // No mount is left for the next caller.
  }

  async remove(id: LayerId): Promise<void> {
    if (!this.exists(id)) return;
    const rest = this.uses.unused(id, () => {
      unmountAt(this.mountPointOf(id));
      return this.setAside(id);
    });
    await rest();
  }

  async reclaim(): Promise<number> {
    let count = 0;
    for (const left of leftMounts(this.uses, `${this.home}/`, (rest) => this.idOfMountPoint(rest))) {
      this.uses.unused(left, () => unmountAt(this.mountPointOf(left as LayerId)));
      count++;
    }
    return count + (await this.reclaimLayers());
  }

  /** Throws when a layer that is about to be committed is mounted writable. */
  protected refuseWritableMount(id: LayerId): void {
    if (!this.uses.inUse(id) || this.isCommitted(id)) return;
    if (mountAt(this.mountPointOf(id))?.options.includes("ro")) return;
    throw new LamellaError("failed_precondition", "LAYER_IN_USE", `layer ${id} is mounted writable`, {
      hint: "unmount it before making a layer on top of it",
    });
  }
}
