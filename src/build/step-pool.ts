/**
 * The threads that carry build steps out, as a pool. A module of its own, and a light one: a caller in a hurry starts the
 * first thread before he loads anything else.
 */
import { availableParallelism } from "node:os";
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import type { StepEvent, StepJob, StepResult } from "./step-jobs.ts";

export type StepPool = WorkerPool<StepJob, StepResult, StepEvent>;

/** How many steps run at once where nothing else is said. */
export const defaultParallelism = Math.max(2, availableParallelism());

const url = workerUrl(import.meta.url, "./step-worker");

/** A pool with one thread under way that nobody has taken yet. */
let started: StepPool | undefined;

/**
 * Starts a thread for whoever asks for a pool next. It costs some hundredths of a second of another processor when no step
 * comes.
 */
export function startStepThread(): void {
  if (started !== undefined) return;
  started = new WorkerPool(url, defaultParallelism);
  started.warm(1);
}

/** A pool for `size` threads; the caller disposes it. */
export function takeStepPool(size: number): StepPool {
  const pool = size === defaultParallelism ? started : undefined;
  if (pool === undefined) return new WorkerPool(url, size);
  started = undefined;
  return pool;
}
