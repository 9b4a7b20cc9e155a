/** What drivers of stacks have worker threads do: the loops over a layer's files that only they need. */
import { carryOut } from "../diff/carry-out.ts";
import type { UpperSource } from "../diff/source.ts";
import { measureOwn } from "../fs/own-usage.ts";
import type { TreeUsage } from "../fs/tree-usage.ts";
import { type JobContext, WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import type { ByteString } from "../lib/bytes.ts";

export type StackJob =
  /** Carries the changes of an upper directory out on a tree. */
  | { readonly kind: "carry-out"; readonly source: UpperSource; readonly tree: ByteString }
  /** Measures a tree without what another one has too. */
  | { readonly kind: "measure-own"; readonly path: ByteString; readonly other: ByteString };

export type StackResult = { readonly kind: "carry-out" } | { readonly kind: "measure-own"; readonly usage: TreeUsage };

let pool: WorkerPool<StackJob, StackResult> | undefined;
async function run<K extends StackJob["kind"]>(
  job: Extract<StackJob, { kind: K }>,
): Promise<Extract<StackResult, { kind: K }>> {
  pool ??= new WorkerPool(workerUrl(import.meta.url, "./stack-worker"), 2);
  return (await pool.run(job)) as Extract<StackResult, { kind: K }>;
}

/** See carryOut. */
export async function carryOutInBackground(source: UpperSource, tree: ByteString): Promise<void> {
  await run<"carry-out">({ kind: "carry-out", source, tree });
}

/** See measureOwn. */
export async function ownUsage(path: ByteString, other: ByteString): Promise<TreeUsage> {
  return (await run<"measure-own">({ kind: "measure-own", path, other })).usage;
}

/** What a thread does with a job. */
export function runStackJob(job: StackJob, { throwIfCanceled }: JobContext<never>): StackResult {
  switch (job.kind) {
    case "carry-out":
      carryOut(job.source, job.tree, throwIfCanceled);
      return { kind: job.kind };
    case "measure-own":
      return { kind: job.kind, usage: measureOwn(job.path, job.other, throwIfCanceled) };
    default:
      return job satisfies never;
  }
}
