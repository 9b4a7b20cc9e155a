/**
 * Calls that may wait for the disk, made by a thread beside the one that serves, which goes on meanwhile. That thread answers
 * the kernel itself. The two share a ring of numbers:
 *
 *     [0] calls begun   [1] calls made   then SLOTS times: what, descriptor, length, offset (2 words), unique (2 words), device
 *
 * The serving thread alone writes slots and [0], the other alone [1]. A descriptor stays open while its call waits: the kernel
 * releases no file with requests under way.
 */
import * as raw from "../sys/raw.ts";
import { OUT_HEADER } from "./protocol.ts";

const SLOTS = 64;
const WORDS = 8;
const HEAD = 2;
const HIGH = 4294967296;

const kinds = ["fsync", "fdatasync", "pread64"] as const;

/** One call. Offset and length in bytes, of a read. */
export interface SlowCall {
  readonly call: (typeof kinds)[number];
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

/** The memory of a ring, for both threads. */
export function slowCallRing(): SharedArrayBuffer {
  return new SharedArrayBuffer((HEAD + SLOTS * WORDS) * 4);
}

export class SlowCalls {
  readonly #ring: Int32Array;
  readonly #device: number;

  /** `device`: the descriptor on which the calls are answered. */
  constructor(ring: SharedArrayBuffer, device: number) {
    this.#ring = new Int32Array(ring);
    this.#device = device;
  }

  /** Hands a call over, to be the answer of the request of that `unique`; false when too many wait already. */
  begin({ call, fd, offset, length }: SlowCall, uniqueLow: number, uniqueHigh: number): boolean {
    const ring = this.#ring;
    const begun = Atomics.load(ring, 0);
    if (((begun - Atomics.load(ring, 1)) | 0) >= SLOTS) return false;
    const at = slotAt(begun);
    ring[at] = kinds.indexOf(call);
    ring[at + 1] = fd;
    ring[at + 2] = length;
    ring[at + 3] = offset | 0;
    ring[at + 4] = Math.floor(offset / HIGH);
    ring[at + 5] = uniqueLow;
    ring[at + 6] = uniqueHigh;
    ring[at + 7] = this.#device;
    Atomics.store(ring, 0, (begun + 1) | 0);
    Atomics.notify(ring, 0);
    return true;
  }

  /** Waits until all calls have been made: before their descriptors, or the device, are closed. */
  finish(): void {
    const ring = this.#ring;
    for (let made = Atomics.load(ring, 1); made !== Atomics.load(ring, 0); made = Atomics.load(ring, 1))
      Atomics.wait(ring, 1, made);
  }
}

function slotAt(call: number): number {
  return HEAD + ((call >>> 0) % SLOTS) * WORDS;
}

/** Makes the calls of a ring and answers them, until the thread is ended. `mostBytes`: of one read. */
export function makeSlowCalls(shared: SharedArrayBuffer, mostBytes: number): never {
  const ring = new Int32Array(shared);
  const reply = Buffer.allocUnsafeSlow(OUT_HEADER + mostBytes);
  for (;;) {
    const made = Atomics.load(ring, 1);
    Atomics.wait(ring, 0, made);
    if (Atomics.load(ring, 0) === made) continue;
    answer(ring.subarray(slotAt(made), slotAt(made) + WORDS), reply);
    Atomics.store(ring, 1, (made + 1) | 0);
    Atomics.notify(ring, 1);
  }
}

/** A request that was given up meanwhile takes no answer; that is no error. */
function answer(slot: Int32Array, reply: Buffer): void {
  const word = (at: number): number => (slot[at] as number) >>> 0;
  const result = make(slot, reply.subarray(OUT_HEADER, OUT_HEADER + word(2)), word(3) + word(4) * HIGH);
  const length = OUT_HEADER + Math.max(0, result);
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(Math.min(0, result), 4);
  reply.writeUInt32LE(word(5), 8);
  reply.writeUInt32LE(word(6), 12);
  raw.write(slot[7] as number, reply, length);
}

function make(slot: Int32Array, into: Buffer, offset: number): number {
  const fd = slot[1] as number;
  const call = kinds[slot[0] as number];
  if (call === "fsync") return raw.fsync(fd);
  if (call === "fdatasync") return raw.fdatasync(fd);
  return raw.pread64(fd, into, into.length, offset);
}
