/**
 * The memory that the threads applying one layer share. One thread (main) brings the tar, two read it: the applier, and
 * the recorder, which hashes it and compresses the record that the applier dictates. A tar that is a file is read by both
 * themselves and only the record travels.
 *
 * ```
 * control    Int32 words, see `word`
 * tar        ring of slots; a slot is free when both readers have acknowledged it
 * record     ring of frames from the applier to the recorder
 * ```
 *
 * Waiting is done in short turns, so that a failure of another thread (`stop`) is seen without a wake-up of its own.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { frameBytes } from "./tar-record-format.ts";

export const tarSlots = 4;
export const tarSlotBytes = 512 * 1024;
const frameSlots = 4;

/** Indexes of the control words. */
const word = {
  /** 1: another thread failed, or the caller gave up. */
  stop: 0,
  /** 1: the layers below are complete. */
  baseReady: 1,
  /** Slots of the tar filled so far. */
  tarFilled: 2,
  /** 1: no more slots will be filled. */
  tarEnded: 3,
  framesFilled: 4,
  framesDone: 5,
  framesEnded: 6,
  /** Changes whenever there may be something to do for the recorder. */
  bell: 7,
  tarLengths: 8,
  frameLengths: 8 + tarSlots,
  frameKinds: 8 + tarSlots + frameSlots,
  count: 8 + tarSlots + 2 * frameSlots,
} as const;

const turnMs = 50;

/** The shared memory itself, as it is sent to the threads. */
export interface SharedMemory {
  readonly control: SharedArrayBuffer;
  readonly tar: SharedArrayBuffer;
  readonly record: SharedArrayBuffer;
}

/** Makes the memory; without `withTar` for a tar that the threads read themselves. */
export function shareMemory(withTar: boolean): SharedMemory {
  return {
    control: new SharedArrayBuffer(word.count * 4),
    tar: new SharedArrayBuffer(withTar ? tarSlots * tarSlotBytes : 0),
    record: new SharedArrayBuffer(frameSlots * frameBytes),
  };
}

/** One thread's view of the shared memory. */
export class Shared {
  readonly #words: Int32Array;
  readonly #memory: SharedMemory;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.control);
  }

  get isStopped(): boolean {
    return Atomics.load(this.#words, word.stop) === 1;
  }

  /** Makes every other thread give up at its next turn. */
  stop(): void {
    this.#set(word.stop, 1);
    this.#ring();
  }

  /** Throws when another thread failed. */
  throwIfStopped(): void {
    if (this.isStopped) throw new LamellaError("canceled", "ABORTED", "the operation was canceled");
  }

  setBaseReady(): void {
    this.#set(word.baseReady, 1);
  }

  /** Blocks until the layers below are complete. Throws when stopped. */
  awaitBase(): void {
    while (Atomics.load(this.#words, word.baseReady) === 0) this.#turn(word.baseReady, 0);
  }

  // ---- the tar

  /** The memory of slot number `index`, which must be free. */
  slot(index: number): Buffer {
    return Buffer.from(this.#memory.tar, (index % tarSlots) * tarSlotBytes, tarSlotBytes);
  }

  /** Hands slot number `index` with `length` bytes to both readers. */
  fill(index: number, length: number): void {
    this.#words[word.tarLengths + (index % tarSlots)] = length;
    this.#set(word.tarFilled, index + 1);
    this.#ring();
  }

  endTar(): void {
    this.#set(word.tarEnded, 1);
    Atomics.notify(this.#words, word.tarFilled);
    this.#ring();
  }

  /** The bytes of slot number `index`: a view, undefined while it is not filled, `"end"` when it never will be. */
  peek(index: number): Buffer | "end" | undefined {
    // The order matters: what was filled before the end must be seen before the end is.
    const ended = Atomics.load(this.#words, word.tarEnded) === 1;
    if (Atomics.load(this.#words, word.tarFilled) > index) {
      return this.slot(index).subarray(0, this.#words[word.tarLengths + (index % tarSlots)]);
    }
    return ended ? "end" : undefined;
  }

  /** As `peek`, blocking until there is an answer. Throws when stopped. */
  take(index: number): Buffer | "end" {
    for (;;) {
      const slot = this.peek(index);
      if (slot !== undefined) return slot;
      this.#turn(word.tarFilled, index);
    }
  }

  // ---- the record

  /** The memory of frame number `index`. Blocks while the recorder is behind; throws when stopped. */
  beginFrame(index: number): Buffer {
    for (;;) {
      const done = Atomics.load(this.#words, word.framesDone);
      if (index - done < frameSlots) return this.#frame(index);
      this.#turn(word.framesDone, done);
    }
  }

  /** Hands frame number `index` with `length` bytes to the recorder. */
  finishFrame(index: number, kind: number, length: number): void {
    const at = index % frameSlots;
    this.#words[word.frameLengths + at] = length;
    this.#words[word.frameKinds + at] = kind;
    this.#set(word.framesFilled, index + 1);
    this.#ring();
  }

  endFrames(): void {
    this.#set(word.framesEnded, 1);
    this.#ring();
  }

  /** Frame number `index`; undefined while it is not filled, `"end"` when it never will be. */
  peekFrame(index: number): { readonly kind: number; readonly bytes: Buffer } | "end" | undefined {
    const ended = Atomics.load(this.#words, word.framesEnded) === 1;
    if (Atomics.load(this.#words, word.framesFilled) <= index) return ended ? "end" : undefined;
    const at = index % frameSlots;
    const bytes = this.#frame(index).subarray(0, this.#words[word.frameLengths + at]);
    return { kind: this.#words[word.frameKinds + at] as number, bytes };
  }

  releaseFrame(index: number): void {
    this.#set(word.framesDone, index + 1);
  }

  #frame(index: number): Buffer {
    return Buffer.from(this.#memory.record, (index % frameSlots) * frameBytes, frameBytes);
  }

  // ---- waiting

  /** Read before looking for work, and given to {@link awaitBell} when there was none. */
  get bell(): number {
    return Atomics.load(this.#words, word.bell);
  }

  /** Blocks until the bell has rung since `seen`. Throws when stopped. */
  awaitBell(seen: number): void {
    this.#turn(word.bell, seen);
  }

  #ring(): void {
    Atomics.add(this.#words, word.bell, 1);
    Atomics.notify(this.#words, word.bell);
  }

  #set(index: number, value: number): void {
    Atomics.store(this.#words, index, value);
    Atomics.notify(this.#words, index);
  }

  #turn(index: number, value: number): void {
    this.throwIfStopped();
    Atomics.wait(this.#words, index, value, turnMs);
  }
}
