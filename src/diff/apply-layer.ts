/**
 * Applies a layer: writes the objects of a layer tar into a target, hashes the tar, and writes the record from which its
 * exact bytes can be made again.
 *
 * Two threads do it. The applier parses the tar and makes the objects; the recorder hashes the same bytes and compresses the
 * record that the applier dictates. A tar in a file is read by both; one that comes as a stream is copied once into memory
 * that both see, and the stream is asked for more only as fast as the slower of them goes.
 *
 * Nothing is made durable here. When applying fails, what has been written is of no use: the caller removes target, record
 * and spill directory.
 */
import { isLamellaError, LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { type DiffId, parseDiffId } from "../oci/digest.ts";
import type { AppliedLayer } from "./apply-applier.ts";
import type { ContentDonor } from "./apply-donor.ts";
import type { ApplyJob, ReadSoFar, RecordedTar, RecordJob } from "./apply-jobs.ts";
import { Shared, shareMemory, tarSlotBytes, tarSlots } from "./apply-shared.ts";
import type { ApplyTarget } from "./source.ts";

/**
 * The most layers applied at once; further ones wait for their turn in the order of the calls. A layer whose base is still
 * being applied occupies its place, so bases must be applied before what lies on them.
 */
const maxLayers = 16;
const url = workerUrl(import.meta.url, "./apply-worker");
const appliers = new WorkerPool<ApplyJob, AppliedLayer, ReadSoFar>(url, maxLayers);
const recorders = new WorkerPool<RecordJob, RecordedTar, ReadSoFar>(url, maxLayers);

/** The uncompressed bytes of a layer tar: a stream, or a part of a file. */
export type LayerTarInput =
  | AsyncIterable<Uint8Array>
  | { readonly file: string; readonly offset: number; readonly length: number };

export interface ApplyLayerOptions {
  readonly target: ApplyTarget;
  readonly tar: LayerTarInput;
  /** Path of the file that gets the record (docs/formats/tar-record.md). */
  readonly recordPath: string;
  /** Directory for contents that the layer itself replaces; made when needed, on the target's file system. */
  readonly spillDir: string;
  /** A place on the target's file system that may hold the same files: data is shared with it where that can be. */
  readonly donor?: ContentDonor | undefined;
  /** Settles when the layers below are complete. Until then whatever needs them waits; when it rejects, so does applying. */
  readonly baseReady?: Promise<void> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told now and then how many bytes of the tar have been applied. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

export interface AppliedTar {
  readonly diffId: DiffId;
  readonly tarSizeBytes: number;
  /** Objects and deletions in the layer. */
  readonly entries: number;
  /** Extended attributes that this host cannot keep (the record has them). */
  readonly skippedXattrs: number;
  /** Bytes of files whose data is the donor's. */
  readonly sharedBytes: number;
}

/**
 * Applies one layer. Errors: `invalid_argument` for archives that are malformed or name what cannot be (the message names
 * the entry), `data_loss` for truncated ones, SyscallErrors, `canceled`, and whatever `baseReady` or the stream throws.
 */
export async function applyLayer(options: ApplyLayerOptions): Promise<AppliedTar> {
  const { target, tar, baseReady, signal } = options;
  throwIfAborted(signal);
  // In place, the copy of the base is the target itself.
  if (target.whiteouts === "remove") await baseReady;
  const isFile = "file" in tar;
  const memory = shareMemory(!isFile);
  const shared = new Shared(memory);
  const tarFile = isFile ? { ...tar, file: bytesOfText(tar.file) } : undefined;
  /** The first error of all threads; what follows it is a consequence. */
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    // A thread that was told to stop may answer before the one that failed.
    if (failure === undefined || isLamellaError(failure.error, "canceled")) failure = { error };
    shared.stop();
  };
  const feeder = isFile ? undefined : new Feeder(shared, tar);
  const run = {
    apply: appliers.run(
      { kind: "apply", memory, tarFile, target, spillDir: bytesOfText(options.spillDir), donor: options.donor },
      {
        signal,
        onEvent: ({ bytes }) => {
          feeder?.acknowledge("applier");
          options.onProgress?.(bytes);
        },
      },
    ),
    record: recorders.run(
      { kind: "record", memory, tarFile, recordPath: bytesOfText(options.recordPath) },
      { signal, onEvent: () => feeder?.acknowledge("recorder") },
    ),
  };
  // A thread that waits for bytes or for the base looks for this, not for the signal.
  const abort = (): void => fail(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  if (baseReady === undefined) shared.setBaseReady();
  else baseReady.then(() => shared.setBaseReady(), fail);
  run.apply.catch(fail);
  run.record.catch(fail);
  const threads = Promise.allSettled([run.apply, run.record]).finally(() => {
    signal?.removeEventListener("abort", abort);
    feeder?.stop();
  });
  await feeder?.feed(signal).catch(fail);
  await threads;
  if (failure !== undefined) throw firstCause(failure.error, signal);
  const { sha256, tarSizeBytes } = await run.record;
  const { entries, skippedXattrs, sharedBytes } = await run.apply;
  return { diffId: parseDiffId(`sha256:${sha256}`), tarSizeBytes, entries, skippedXattrs, sharedBytes };
}

function firstCause(error: unknown, signal: AbortSignal | undefined): unknown {
  if (!signal?.aborted) return error;
  return new LamellaError("canceled", "ABORTED", "the operation was canceled", { cause: signal.reason });
}

type Reader = "applier" | "recorder";

/** Copies a stream into the shared slots as they become free. */
class Feeder {
  readonly #shared: Shared;
  readonly #tar: AsyncIterable<Uint8Array>;
  readonly #done: Record<Reader, number> = { applier: 0, recorder: 0 };
  #index = 0;
  #slot: Buffer | undefined;
  #length = 0;
  #isStopped = false;
  #wake: (() => void) | undefined;

  constructor(shared: Shared, tar: AsyncIterable<Uint8Array>) {
    this.#shared = shared;
    this.#tar = tar;
  }

  /** Feeds all of the stream, or until {@link stop}. Errors: those of the stream, canceled. */
  async feed(signal: AbortSignal | undefined): Promise<void> {
    const chunks = this.#tar[Symbol.asyncIterator]();
    try {
      for (let next = await this.#next(chunks); next !== undefined; next = await this.#next(chunks)) {
        throwIfAborted(signal);
        if (!(await this.#copy(next))) return;
      }
      if (this.#isStopped) return;
      if (this.#length > 0) this.#flush();
      this.#shared.endTar();
    } finally {
      // A stream that hangs must not hold up the error: its end is not waited for.
      if (this.#isStopped) chunks.return?.().catch(() => {});
    }
  }

  /** The next piece of the stream; undefined at its end and once stopped. */
  async #next(chunks: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
    if (this.#isStopped) return undefined;
    const stopped = new Promise<undefined>((resolve) => {
      this.#wake = () => {
        if (this.#isStopped) resolve(undefined);
      };
    });
    const result = await Promise.race([chunks.next(), stopped]);
    return result === undefined || result.done === true ? undefined : result.value;
  }

  /** False once stopped. */
  async #copy(chunk: Uint8Array): Promise<boolean> {
    for (let at = 0; at < chunk.length; ) {
      this.#slot ??= await this.#freeSlot();
      if (this.#slot === undefined) return false;
      const part = chunk.subarray(at, at + tarSlotBytes - this.#length);
      this.#slot.set(part, this.#length);
      this.#length += part.length;
      at += part.length;
      if (this.#length === tarSlotBytes) this.#flush();
    }
    return !this.#isStopped;
  }

  acknowledge(reader: Reader): void {
    this.#done[reader]++;
    this.#wake?.();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake?.();
  }

  #flush(): void {
    this.#shared.fill(this.#index++, this.#length);
    this.#slot = undefined;
    this.#length = 0;
  }

  /** Undefined once stopped. */
  async #freeSlot(): Promise<Buffer | undefined> {
    while (!this.#isStopped && this.#index - Math.min(this.#done.applier, this.#done.recorder) >= tarSlots) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#isStopped ? undefined : this.#shared.slot(this.#index);
  }
}
