/**
 * Brings layers from somewhere into a store: several at once, bases before what stands on them, each verified by its diff ID
 * and published as soon as it is whole. A layer that is there already is not touched; so work that was cut short, even by
 * kill -9, goes on where it stopped.
 *
 * Publishing costs a flush of the file system; layers that are ready while one runs are published together by the next.
 *
 * A layer that is damaged at its source takes down what stands on it, and nothing else; it is told at the end. What would
 * fail again for the next layer (no space, no permission) ends the whole.
 */
import type { ContentDonor } from "../diff/apply-donor.ts";
import type { LayerTarInput } from "../diff/apply-layer.ts";
import { type ErrorKind, isLamellaError, LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { Disposables } from "../lib/disposables.ts";
import { Slots } from "../lib/slots.ts";
import { type ChainId, chainIdOf, type DiffId } from "../oci/digest.ts";
import type { StagedLayer, Store } from "../store/store.ts";
import type { LayerRecord } from "../store/types.ts";

/** A layer at its source. */
export interface LayerToMove {
  readonly chainId: ChainId;
  readonly parent: ChainId | undefined;
  readonly diffId: DiffId;
  /** Length of the tar, where the source knows it. */
  readonly tarSizeBytes: number | undefined;
  /** Makes its tar readable. The diff ID differs where the exact tar is lost and another had to be made. */
  open(signal: AbortSignal): Promise<OpenLayer>;
}

/** Readable until disposed. */
export interface OpenLayer extends AsyncDisposable {
  readonly diffId: DiffId;
  readonly tar: LayerTarInput;
  readonly donor?: ContentDonor | undefined;
}

export interface LayerProgress {
  readonly diffId: DiffId;
  readonly event: "started" | "bytes" | "done" | "exists";
  /** Tar bytes read so far. */
  readonly bytes: number;
  readonly totalBytes: number | undefined;
  /** Of a layer that is done: bytes that share their data with the source's. */
  readonly sharedBytes?: number | undefined;
}

export interface MoveLayersOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LayerProgress) => void) | undefined;
}

/** What became of layers, by their chain IDs at the source. Disposing lets go of them: by then something must need them. */
export interface MovedLayers extends Disposable {
  readonly records: ReadonlyMap<ChainId, LayerRecord>;
  readonly failures: ReadonlyMap<ChainId, LamellaError>;
  /** Layers that were not there before, and the bytes of their tars and of what they share. */
  readonly made: number;
  readonly madeBytes: number;
  readonly sharedBytes: number;
}

/** The most layers that are read at once. More would not be faster, and each costs three threads. */
const layersAtOnce = 3;

/** Kinds of failure that are about one layer. */
const ofOneLayer: readonly ErrorKind[] = ["data_loss", "invalid_argument", "failed_precondition", "not_found"];

/** A layer on its way: others may stand on it. */
interface Started {
  readonly layer: StagedLayer | LayerRecord;
  readonly chainId: ChainId;
  readonly finished: Promise<LayerRecord>;
}

/** Moves layers, given with those below before those on top. Errors: those that are not of one layer; canceled. */
export async function moveLayers(
  store: Store,
  layers: readonly LayerToMove[],
  options: MoveLayersOptions = {},
): Promise<MovedLayers> {
  const mover = new LayerMover(store, options);
  return mover.move(layers);
}

class LayerMover {
  readonly #store: Store;
  readonly #options: MoveLayersOptions;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  readonly #slots = new Slots(layersAtOnce);
  readonly #publisher: Publisher;
  readonly #started = new Map<ChainId, Promise<Started>>();
  /** Not published yet, in the order they were begun. */
  readonly #staged = new Set<StagedLayer>();
  readonly #holds = new Disposables();
  #made = 0;
  #madeBytes = 0;
  #sharedBytes = 0;

  constructor(store: Store, options: MoveLayersOptions) {
    this.#store = store;
    this.#options = options;
    const { signal } = this.#abort;
    this.#signal = options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]);
    this.#publisher = new Publisher(store, this.#signal);
  }

  async move(layers: readonly LayerToMove[]): Promise<MovedLayers> {
    for (const layer of layers) {
      const started = this.#start(layer);
      this.#started.set(layer.chainId, started);
      started.then(({ finished }) => finished).catch((error: unknown) => this.#judge(error));
    }
    const records = new Map<ChainId, LayerRecord>();
    const failures = new Map<ChainId, LamellaError>();
    let fatal: unknown;
    for (const { chainId } of layers) {
      try {
        const { finished } = await (this.#started.get(chainId) as Promise<Started>);
        records.set(chainId, await finished);
      } catch (error) {
        if (isOfOneLayer(error)) failures.set(chainId, error);
        else if (fatal === undefined || isLamellaError(fatal, "canceled")) fatal = error;
      }
    }
    // What failed is discarded from the top, or it would have layers on it.
    for (const staged of [...this.#staged].reverse()) await this.#store.discardLayer(staged);
    if (fatal !== undefined) {
      this.#holds[Symbol.dispose]();
      throw fatal;
    }
    const holds = this.#holds;
    return {
      records,
      failures,
      made: this.#made,
      madeBytes: this.#madeBytes,
      sharedBytes: this.#sharedBytes,
      [Symbol.dispose]: () => holds[Symbol.dispose](),
    };
  }

  /** A failure that is not of one layer stops all. */
  #judge(error: unknown): void {
    if (!isOfOneLayer(error)) this.#abort.abort(error);
  }

  async #start(layer: LayerToMove): Promise<Started> {
    const base = layer.parent === undefined ? undefined : await this.#baseOf(layer.parent);
    throwIfAborted(this.#signal);
    const existing = this.#existing(chainIdOf(base?.chainId, layer.diffId));
    if (existing !== undefined) {
      this.#tell(layer, "exists", existing.tarSizeBytes);
      return { layer: existing, chainId: existing.chainId, finished: Promise.resolve(existing) };
    }
    using slot = new Disposables();
    slot.use(await this.#slots.take());
    throwIfAborted(this.#signal);
    this.#tell(layer, "started", 0);
    const open = await layer.open(this.#signal);
    let staged: StagedLayer;
    try {
      staged = await this.#store.unpackLayer({
        parent: base?.layer,
        expectedDiffId: open.diffId,
        tar: () => open.tar,
        donor: open.donor,
        what: `layer ${layer.diffId.slice(7, 19)}`,
        signal: this.#signal,
        onProgress: (bytes) => this.#tell(layer, "bytes", bytes),
      });
    } catch (error) {
      await open[Symbol.asyncDispose]();
      throw error;
    }
    this.#staged.add(staged);
    const finished = this.#finish(layer, base, { staged, open, slot: slot.move() });
    finished.catch(() => undefined);
    return { layer: staged, chainId: chainIdOf(base?.chainId, open.diffId), finished };
  }

  async #baseOf(parent: ChainId): Promise<Started> {
    const started = this.#started.get(parent);
    if (started === undefined)
      throw new LamellaError("data_loss", "LAYER_MISSING", `the layer below it, ${parent}, is missing`);
    try {
      return await started;
    } catch (error) {
      throw consequence(parent, error);
    }
  }

  async #finish(
    layer: LayerToMove,
    base: Started | undefined,
    work: { readonly staged: StagedLayer; readonly open: OpenLayer; readonly slot: Disposable },
  ): Promise<LayerRecord> {
    const { staged } = work;
    const digest = await (async () => {
      using _ = work.slot;
      await using _open = work.open;
      return await staged.done;
    })();
    if (base !== undefined)
      await base.finished.catch((error: unknown) => {
        throw consequence(layer.parent as ChainId, error);
      });
    await this.#publisher.publish(staged);
    this.#staged.delete(staged);
    this.#made++;
    this.#madeBytes += digest.tarSizeBytes;
    this.#sharedBytes += digest.sharedBytes ?? 0;
    this.#tell(layer, "done", digest.tarSizeBytes, digest.sharedBytes);
    const record = this.#existing(digest.chainId);
    if (record !== undefined) return record;
    throw new LamellaError("aborted", "LAYER_REMOVED", `layer ${digest.chainId} has been removed meanwhile`, {
      hint: "somebody collected garbage at this moment; run the command again",
    });
  }

  /** The published layer of a chain, held. */
  #existing(chainId: ChainId): LayerRecord | undefined {
    const record = this.#store.layer(chainId);
    if (record === undefined) return undefined;
    try {
      this.#holds.use(this.#store.hold(chainId));
      return record;
    } catch (error) {
      if (isLamellaError(error, "not_found")) return undefined;
      throw error;
    }
  }

  #tell(layer: LayerToMove, event: LayerProgress["event"], bytes: number, sharedBytes?: number): void {
    const { diffId, tarSizeBytes: totalBytes } = layer;
    this.#options.onProgress?.({ diffId, event, bytes, totalBytes, sharedBytes });
  }
}

/** True for what is wrong with one layer, and would not be with the next. */
export function isOfOneLayer(error: unknown): error is LamellaError {
  return isLamellaError(error, ...ofOneLayer);
}

/** What a layer fails with when the one below it did. */
function consequence(parent: ChainId, error: unknown): unknown {
  if (!isOfOneLayer(error)) return error;
  if (error.code === "LAYER_BELOW") return error;
  return new LamellaError("data_loss", "LAYER_BELOW", `the layer below it, ${parent}: ${error.message}`, {
    hint: error.hint,
    cause: error,
  });
}

/** Publishes layers one transaction after the other; what comes meanwhile waits for the next. */
class Publisher {
  readonly #store: Store;
  readonly #signal: AbortSignal;
  #next: { readonly layers: StagedLayer[]; readonly done: Promise<void> } | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: Store, signal: AbortSignal) {
    this.#store = store;
    this.#signal = signal;
  }

  /** Publishes a layer whose parent is published, or was given before. */
  async publish(layer: StagedLayer): Promise<void> {
    if (this.#next !== undefined) {
      this.#next.layers.push(layer);
      return this.#next.done;
    }
    const layers = [layer];
    const done = this.#last.then(async () => {
      this.#next = undefined;
      throwIfAborted(this.#signal);
      await this.#store.publish({ layers });
    });
    this.#next = { layers, done };
    this.#last = done.catch(() => undefined);
    return done;
  }
}
