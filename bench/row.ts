/** What a benchmark is, and what it tells. */
import type { Places } from "./places.ts";

/** One line of the table: ours against a peer's. */
export interface Result {
  readonly work: string;
  readonly peer: string;
  /** Wall times in milliseconds, one a pair. */
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  /** The most that the ratio of the medians may be; without one it is for information. */
  readonly limit?: number;
  /** Peak memory of our process while it did this. */
  readonly peakBytes?: number;
  readonly note?: string;
}

/** Thrown by a row that cannot be measured here; the table shows why. */
export class Unavailable extends Error {}

export interface Context {
  readonly places: Places;
  readonly pairs: number;
  /** Tells the person who waits what is going on. */
  log(message: string): void;
}

export interface Row {
  readonly name: string;
  readonly about: string;
  run(context: Context): Promise<readonly Result[]>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
