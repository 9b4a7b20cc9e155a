/**
 * Sparse maps, in the four ways GNU tar has written them (GNU tar manual, "Storing Sparse Files"):
 *
 * | format | where the map stands |
 * |---|---|
 * | old GNU | typeflag `S`: 4 regions in the header, then blocks of 21 regions |
 * | PAX 0.0 | records GNU.sparse.offset, GNU.sparse.numbytes, one pair a region |
 * | PAX 0.1 | record GNU.sparse.map: `offset,length,offset,length…` |
 * | PAX 1.0 | decimal lines at the head of the payload: count, then offset and length a region; padded to a block |
 *
 * Maps are built region by region, so that a million of them take linear time and nothing but the map itself.
 */
import type { SparseRegion } from "./entry.ts";
import { numberField } from "./fields.ts";

/** A map under construction. Numbers arrive in file order: offset, length, offset, length. */
export class SparseMap {
  readonly regions: SparseRegion[] = [];
  /** The offset that waits for its length. */
  #offset: number | undefined;
  /** End of the last region. */
  #end = 0;
  /** Sum of the lengths. */
  storedBytes = 0;
  readonly #maxRegions: number;

  constructor(maxRegions: number) {
    this.#maxRegions = maxRegions;
  }

  /** Takes the next number. Returns what is wrong with it, or nothing. */
  add(value: number): string | undefined {
    if (!(value >= 0) || !Number.isSafeInteger(value)) return "sparse map with a number that is no size";
    if (this.#offset === undefined) {
      if (value < this.#end) return "sparse map whose regions overlap or are out of order";
      this.#offset = value;
      return undefined;
    }
    if (this.regions.length === this.#maxRegions) return `sparse map with more than ${this.#maxRegions} regions`;
    this.#end = this.#offset + value;
    if (!Number.isSafeInteger(this.#end)) return "sparse map that reaches beyond 2^53";
    this.regions.push({ offset: this.#offset, length: value });
    this.storedBytes += value;
    this.#offset = undefined;
    return undefined;
  }

  /** Whether the next number is an offset. */
  get expectsOffset(): boolean {
    return this.#offset === undefined;
  }

  /** What is wrong with the finished map of a file of `realSize` bytes of which the archive stores `size`, or nothing. */
  check(size: number, realSize: number): string | undefined {
    if (this.#offset !== undefined) return "sparse map that ends with an offset";
    if (this.#end > realSize) return `sparse map that reaches byte ${this.#end} of a file of ${realSize}`;
    if (this.storedBytes !== size) return `sparse map of ${this.storedBytes} bytes over ${size} stored bytes`;
    return undefined;
  }
}

/** Adds `count` old GNU regions standing at `start`; an empty one ends the list. Returns what is wrong, or nothing. */
export function addOldGnuRegions(map: SparseMap, block: Buffer, start: number, count: number): string | undefined {
  for (let i = 0; i < count; i++) {
    const at = start + i * 24;
    if (block[at] === 0 && block[at + 12] === 0) return undefined;
    const problem =
      map.add(numberField(block, at, 12) ?? Number.NaN) ?? map.add(numberField(block, at + 12, 12) ?? Number.NaN);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Reads a PAX 1.0 map as its bytes come. */
export class SparseLines {
  readonly map: SparseMap;
  /** Numbers still to come; `undefined` before the count has been read. */
  #left: number | undefined;
  #value = 0;
  #digits = 0;

  constructor(map: SparseMap) {
    this.map = map;
  }

  get isComplete(): boolean {
    return this.#left === 0;
  }

  /** What is wrong with the map, once {@link push} has met it. */
  problem: string | undefined;

  /** Takes the bytes from `at` to `end`. Returns where it stopped: before `end` when the map is complete or wrong. */
  push(bytes: Buffer, at: number, end: number): number {
    let next = at;
    while (next < end && this.#left !== 0 && this.problem === undefined) this.#take(bytes[next++] as number);
    return next;
  }

  #take(byte: number): void {
    if (byte >= 0x30 && byte <= 0x39) {
      if (++this.#digits > 16) this.problem = "sparse map with a number beyond 2^53";
      this.#value = this.#value * 10 + (byte - 0x30);
      return;
    }
    if (byte !== 0x0a || this.#digits === 0) this.problem = "sparse map that is not made of decimal lines";
    else if (this.#left === undefined) this.#left = this.#value * 2;
    else {
      this.problem = this.map.add(this.#value);
      this.#left--;
    }
    this.#value = 0;
    this.#digits = 0;
  }
}
