/**
 * The layers this process makes: from their creation in the driver until they are published or discarded.
 *
 *   begin ──► active ──seal──► staged ──publish──► published
 *   unpack ──────────────────► staged ──publish──► dropped (somebody else published the same chain first)
 *   active, staged ──discard──► gone
 *
 * A layer that was dropped may still carry layers on top of it; it goes when the last of them has moved over to the
 * published twin, which happens when that one is published itself.
 *
 * The file is longer than most because it is one life cycle: every transition above touches the same records.
 */

import { setMaxListeners } from "node:events";
import { performance } from "node:perf_hooks";
import { applyLayer, type LayerTarInput } from "../diff/apply-layer.ts";
import { exportLayer } from "../diff/export-layer.ts";
import type { LayerId } from "../drivers/driver.ts";
import { newLayerId } from "../drivers/layer-id.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { warmFlush } from "../fs/flush.ts";
import { type ChainId, chainIdOf, type DiffId, hexOf } from "../oci/digest.ts";
import { tryLock, waitFor } from "./chain-lock.ts";
import { emit } from "./channels.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import type { ActiveLayer, LayerDigest, StagedLayer, UnpackOptions } from "./requests.ts";
import type { LayerRecord } from "./types.ts";

/** What a layer stands on. */
type Base =
  | { readonly kind: "work"; readonly work: LayerWork }
  | { readonly kind: "record"; readonly record: LayerRecord };

/** One layer in the making. */
export class LayerWork {
  readonly layerId: LayerId;
  readonly depth: number;
  readonly base: Base | undefined;
  /** Layers in the making on top of this one. */
  readonly children = new Set<LayerWork>();
  readonly abort = new AbortController();
  state: "active" | "staged" | "published" | "dropped" | "discarded" = "active";
  /** Settles when the tree is complete, so that it can be copied or mounted. */
  tree: Promise<void> = Promise.resolve();
  done: Promise<LayerDigest> | undefined;
  /** The chain ID the layer will have, where it is known in advance. */
  expectedChain: ChainId | undefined;
  /** The chain's lock. */
  lock: Disposable | undefined;
  /** The published layer: this one, or its twin when it was dropped. */
  record: LayerRecord | undefined;
  /** True while `record` is held on behalf of a staged layer that stands for a published one. */
  isHeldExisting = false;

  constructor(layerId: LayerId, depth: number, base: Base | undefined) {
    this.layerId = layerId;
    this.depth = depth;
    this.base = base;
    setMaxListeners(0, this.abort.signal);
  }

  /** Published elsewhere and only kept for the layers on top of it. */
  get isOver(): boolean {
    return this.state === "published" || this.state === "dropped" || this.state === "discarded";
  }
}

export class Staging {
  readonly #store: StoreContext;
  readonly #works = new WeakMap<ActiveLayer | StagedLayer, LayerWork>();
  /** All works that still own something on disk. */
  readonly #open = new Set<LayerWork>();

  constructor(store: StoreContext) {
    this.#store = store;
  }

  workOf(layer: ActiveLayer | StagedLayer): LayerWork {
    const work = this.#works.get(layer);
    if (work !== undefined) return work;
    throw new LamellaError("invalid_argument", "FOREIGN_LAYER", `layer ${layer.layerId} was made by another store`);
  }

  async begin(
    parent: StagedLayer | LayerRecord | undefined,
    options: { readonly sizeBytes?: number } = {},
  ): Promise<ActiveLayer> {
    const base = this.#holdBase(parent);
    const work = this.#newWork(base);
    try {
      if (base?.kind === "work") await base.work.tree;
      const sizeBytes = options.sizeBytes ?? this.#store.driver.writableSizeBytes ?? 0;
      await this.#create(work, sizeBytes === 0 ? {} : { sizeBytes });
    } catch (error) {
      await this.#abandon(work, error);
    }
    const active: ActiveLayer = { layerId: work.layerId, depth: work.depth };
    this.#works.set(active, work);
    return active;
  }

  seal(
    active: ActiveLayer,
    options: { readonly clampMtimeSec?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): StagedLayer {
    const work = this.workOf(active);
    if (work.state !== "active") {
      throw new LamellaError("failed_precondition", "NOT_ACTIVE", `layer ${work.layerId} is ${work.state} already`);
    }
    work.state = "staged";
    const { driver, paths } = this.#store;
    work.tree = driver.seal(work.layerId);
    return this.#stage(work, async () => {
      const started = performance.now();
      await work.tree;
      failpoint("layer.sealed");
      await using source = await driver.diffSource(work.layerId);
      const exported = await exportLayer({
        source: source.value,
        recordPath: paths.record(work.layerId),
        clampMtimeSec: options.clampMtimeSec,
        signal: anySignal(work.abort.signal, options.signal),
      });
      const { diffId, tarSizeBytes } = exported;
      const chainId = chainIdOf(await chainOfBase(work.base), diffId);
      failpoint("layer.exported");
      emit("layer", { event: "exported", diffId, chainId, tarSizeBytes, durationMs: performance.now() - started });
      return { diffId, chainId, tarSizeBytes, exported };
    });
  }

  async unpack(options: UnpackOptions): Promise<StagedLayer> {
    warmFlush();
    const base = this.#holdBase(options.parent);
    const chainId = expectedChain(base, options.expectedDiffId);
    let lock: Disposable | undefined;
    try {
      if (chainId !== undefined) {
        const found = await this.#lockOrFind(chainId, options.signal);
        if ("record" in found) {
          this.#releaseBase(base);
          return this.#existing(found.record);
        }
        lock = found.lock;
      }
      if (base?.kind === "work" && !this.#store.driver.capabilities.stacks) await base.work.tree;
    } catch (error) {
      lock?.[Symbol.dispose]();
      this.#releaseBase(base);
      throw error;
    }
    const work = this.#newWork(base);
    work.lock = lock;
    work.expectedChain = chainId;
    try {
      await this.#create(work, {});
    } catch (error) {
      await this.#abandon(work, error);
    }
    work.state = "staged";
    const staged = this.#stage(work, () => this.#apply(work, options));
    work.tree = staged.done.then(() => undefined);
    work.tree.catch(() => undefined);
    return staged;
  }

  async discard(layer: ActiveLayer | StagedLayer): Promise<void> {
    await this.discardWork(this.workOf(layer));
  }

  /** Discards what is left, the uppermost first. What fails is told at the end. */
  async discardAll(): Promise<void> {
    const errors: unknown[] = [];
    for (const work of [...this.#open].sort((a, b) => b.depth - a.depth)) {
      try {
        if (work.state === "dropped") await this.#deleteDropped(work);
        else await this.discardWork(work);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** Lets go of a published layer that `unpack` found in place of making one. */
  releaseExisting(work: LayerWork): void {
    if (!work.isHeldExisting) return;
    work.isHeldExisting = false;
    this.#store.holds.releaseLayer(work.layerId);
  }

  async discardWork(work: LayerWork): Promise<void> {
    this.releaseExisting(work);
    if (work.isOver) return;
    const living = [...work.children].filter((child) => !child.isOver);
    if (living.length > 0) {
      throw new LamellaError("failed_precondition", "HAS_CHILDREN", `layer ${work.layerId} has layers on top of it`);
    }
    work.state = "discarded";
    work.abort.abort();
    await Promise.allSettled([work.done, work.tree]);
    try {
      await this.#store.deleteLayer(work.layerId);
    } finally {
      work.lock?.[Symbol.dispose]();
    }
    this.#store.holds.releaseLayer(work.layerId);
    this.#open.delete(work);
    await this.#leaveBase(work);
  }

  /** The published layer or the work's own that a layer must stand on in the driver now. */
  baseLayerId(work: LayerWork): LayerId | undefined {
    const { base } = work;
    if (base === undefined) return undefined;
    return base.kind === "record" ? base.record.layerId : (base.work.record?.layerId ?? base.work.layerId);
  }

  /** A container has the layer now. */
  async adopted(active: ActiveLayer): Promise<void> {
    const work = this.workOf(active);
    work.state = "published";
    this.#store.holds.releaseLayer(work.layerId);
    this.#open.delete(work);
    await this.#leaveBase(work);
  }

  /** After the transaction: the work's layer is published under its own ID. */
  async published(work: LayerWork, record: LayerRecord): Promise<void> {
    work.state = "published";
    work.record = record;
    work.lock?.[Symbol.dispose]();
    this.#store.holds.releaseLayer(work.layerId);
    this.#open.delete(work);
    await this.#leaveBase(work);
  }

  /** After the transaction: `record` was there before; it is held as long as layers of ours move over to it. */
  async dropped(work: LayerWork, record: LayerRecord): Promise<void> {
    if (work.isOver) return;
    work.state = "dropped";
    work.record = record;
    work.lock?.[Symbol.dispose]();
    if ([...work.children].every((child) => child.isOver)) await this.#deleteDropped(work);
  }

  async #deleteDropped(work: LayerWork): Promise<void> {
    await this.#store.deleteLayer(work.layerId, work.record?.chainId);
    failpoint("publish.dropped");
    this.#store.holds.releaseLayer(work.layerId);
    if (work.record !== undefined) this.#store.holds.releaseLayer(work.record.layerId);
    this.#open.delete(work);
    await this.#leaveBase(work);
  }

  async #leaveBase(work: LayerWork): Promise<void> {
    const { base } = work;
    if (base?.kind === "record") this.#store.holds.releaseLayer(base.record.layerId);
    if (base?.kind !== "work") return;
    base.work.children.delete(work);
    if (base.work.state === "dropped" && this.#open.has(base.work)) {
      if ([...base.work.children].every((child) => child.isOver)) await this.#deleteDropped(base.work);
    }
  }

  #holdBase(parent: StagedLayer | LayerRecord | undefined): Base | undefined {
    if (parent === undefined) return undefined;
    if ("done" in parent) {
      const work = this.workOf(parent);
      if (work.state === "discarded") throw gone(work.layerId);
      if (work.record === undefined) return { kind: "work", work };
      return this.#holdRecord(work.record);
    }
    return this.#holdRecord(parent);
  }

  #holdRecord(wanted: LayerRecord): Base {
    const record = this.#store.holdChain(wanted.chainId);
    if (record === undefined) throw gone(wanted.chainId);
    return { kind: "record", record };
  }

  #releaseBase(base: Base | undefined): void {
    if (base?.kind === "record") this.#store.holds.releaseLayer(base.record.layerId);
  }

  #newWork(base: Base | undefined): LayerWork {
    const depth = (base === undefined ? 0 : base.kind === "work" ? base.work.depth : base.record.depth) + 1;
    try {
      this.#store.checkDepth(depth);
    } catch (error) {
      this.#releaseBase(base);
      throw error;
    }
    const work = new LayerWork(newLayerId(), depth, base);
    if (base?.kind === "work") base.work.children.add(work);
    this.#open.add(work);
    return work;
  }

  async #create(work: LayerWork, options: { readonly sizeBytes?: number }): Promise<void> {
    this.#store.holds.holdLayer(work.layerId);
    failpoint("layer.held");
    await this.#store.driver.create(work.layerId, this.baseLayerId(work), options);
    failpoint("layer.created");
  }

  async #abandon(work: LayerWork, error: unknown): Promise<never> {
    await this.discardWork(work);
    throw error;
  }

  #stage(work: LayerWork, run: () => Promise<LayerDigest>): StagedLayer {
    warmFlush();
    const done = run();
    done.catch(() => undefined);
    work.done = done;
    const staged: StagedLayer = { layerId: work.layerId, depth: work.depth, done };
    this.#works.set(staged, work);
    return staged;
  }

  /** A published layer in the guise of a staged one, held until it is published again (which does nothing) or discarded. */
  #existing(record: LayerRecord): StagedLayer {
    const { chainId, diffId, tarSizeBytes } = record;
    emit("layer", { event: "exists", diffId, chainId, tarSizeBytes, durationMs: 0 });
    const work = new LayerWork(record.layerId, record.depth, undefined);
    work.state = "published";
    work.record = record;
    work.isHeldExisting = true;
    return this.#stage(work, async () => ({ diffId, chainId, tarSizeBytes, exported: undefined }));
  }

  /** Waits until the chain is published (held then) or its lock is ours. */
  async #lockOrFind(
    chainId: ChainId,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly record: LayerRecord } | { readonly lock: Disposable }> {
    const path = `${this.#store.paths.locks}/c-${hexOf(chainId)}`;
    const exists = (): LayerRecord | undefined => {
      this.#store.tables.meta.fresh();
      return this.#store.tables.layers.get(chainId) && this.#store.holdChain(chainId);
    };
    return waitFor(() => {
      const before = exists();
      if (before !== undefined) return { record: before };
      const lock = tryLock(path);
      if (lock === undefined) return undefined;
      const record = exists();
      if (record === undefined) return { lock };
      lock[Symbol.dispose]();
      return { record };
    }, signal);
  }

  async #apply(work: LayerWork, options: UnpackOptions): Promise<LayerDigest> {
    const started = performance.now();
    const { driver, paths } = this.#store;
    const { expectedDiffId, tar, donor, onProgress } = options;
    const what = options.what ?? "layer";
    const input: LayerTarInput = typeof tar === "function" ? tar() : tar;
    try {
      await using target = await driver.applyTarget(work.layerId);
      const { diffId, tarSizeBytes, sharedBytes } = await applyLayer({
        target: target.value,
        tar: input,
        recordPath: paths.record(work.layerId),
        spillDir: paths.spill(work.layerId),
        donor,
        baseReady: work.base?.kind === "work" ? work.base.work.tree : undefined,
        signal: anySignal(work.abort.signal, options.signal),
        onProgress,
      });
      failpoint("layer.unpacked");
      if (expectedDiffId !== undefined && diffId !== expectedDiffId) throw diffIdMismatch(expectedDiffId, diffId);
      const chainId = chainIdOf(await chainOfBase(work.base), diffId);
      emit("layer", { event: "unpacked", diffId, chainId, tarSizeBytes, durationMs: performance.now() - started });
      return { diffId, chainId, tarSizeBytes, exported: undefined, sharedBytes };
    } catch (error) {
      if (!(error instanceof LamellaError) || error.kind === "canceled") throw error;
      throw new LamellaError(error.kind, error.code, `${what}: ${error.message}`, { hint: error.hint, cause: error });
    }
  }
}

async function chainOfBase(base: Base | undefined): Promise<ChainId | undefined> {
  if (base === undefined) return undefined;
  return base.kind === "record" ? base.record.chainId : (await base.work.done)?.chainId;
}

function expectedChain(base: Base | undefined, diffId: DiffId | undefined): ChainId | undefined {
  if (diffId === undefined) return undefined;
  if (base === undefined) return chainIdOf(undefined, diffId);
  const parent = base.kind === "record" ? base.record.chainId : base.work.expectedChain;
  return parent && chainIdOf(parent, diffId);
}

function anySignal(own: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other === undefined ? own : AbortSignal.any([own, other]);
}

function gone(name: string): LamellaError {
  return new LamellaError("not_found", "NO_SUCH_LAYER", `layer ${name} is not in the store (any more)`);
}

function diffIdMismatch(expected: DiffId, found: DiffId): LamellaError {
  return new LamellaError(
    "data_loss",
    "DIFF_ID_MISMATCH",
    `the content has diff ID ${found}, the config says ${expected}`,
    {
      hint: "the archive is damaged or was altered; get it again",
    },
  );
}
