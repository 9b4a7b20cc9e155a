/** What drivers of stacks have worker threads do: the loops over a layer's files that only they need. */
import { carryOut } from "../diff/carry-out.ts";
import type { UpperSource } from "../diff/source.ts";
import { measureOwn } from "../fs/own-usage.ts";
import type { TreeUsage } from "../fs/tree-usage.ts";
import { type JobContext, WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { OverlayXattrPrefix } from "../overlayfs/xattr-names.ts";
import { type Branch, type BranchForm, checkNames, convertBranch } from "./aufs/convert.ts";
import { writeMarks } from "./aufs/marks.ts";

export type StackJob =
  /** Carries the changes of an upper directory out on a tree. */
  | { readonly kind: "carry-out"; readonly source: UpperSource; readonly tree: ByteString }
  /** Measures a tree without what another one has too. */
  | { readonly kind: "measure-own"; readonly path: ByteString; readonly other: ByteString }
  /** Writes the marks of an AUFS branch beside it. */
  | {
      readonly kind: "write-marks";
      readonly branch: ByteString;
      readonly target: ByteString;
      readonly prefix: OverlayXattrPrefix;
    }
  /** Refuses names in a branch that would be taken for AUFS's marks. */
  | { readonly kind: "check-names"; readonly branch: ByteString }
  /** Gives the marks of an AUFS branch another form. */
  | { readonly kind: "convert-branch"; readonly branch: Branch; readonly form: BranchForm };

export type StackResult =
  | { readonly kind: "carry-out" | "write-marks" | "check-names" | "convert-branch" }
  | { readonly kind: "measure-own"; readonly usage: TreeUsage };

let pool: WorkerPool<StackJob, StackResult> | undefined;
function run(job: StackJob): Promise<StackResult> {
  pool ??= new WorkerPool(workerUrl(import.meta.url, "./stack-worker"), 2);
  return pool.run(job);
}

/** See carryOut. */
export async function carryOutInBackground(source: UpperSource, tree: ByteString): Promise<void> {
  await run({ kind: "carry-out", source, tree });
}

/** See measureOwn. */
export async function ownUsage(path: ByteString, other: ByteString): Promise<TreeUsage> {
  const result = await run({ kind: "measure-own", path, other });
  return (result as Extract<StackResult, { kind: "measure-own" }>).usage;
}

/** See writeMarks. */
export async function writeMarksInBackground(
  branch: ByteString,
  target: ByteString,
  prefix: OverlayXattrPrefix,
): Promise<void> {
  await run({ kind: "write-marks", branch, target, prefix });
}

/** See checkNames. */
export async function checkNamesInBackground(branch: ByteString): Promise<void> {
  await run({ kind: "check-names", branch });
}

/** See convertBranch. */
export async function convertBranchInBackground(branch: Branch, form: BranchForm): Promise<void> {
  await run({ kind: "convert-branch", branch, form });
}

/** What a thread does with a job. */
export function runStackJob(job: StackJob, { throwIfCanceled }: JobContext<never>): StackResult {
  switch (job.kind) {
    case "carry-out":
      carryOut(job.source, job.tree, throwIfCanceled);
      return { kind: job.kind };
    case "measure-own":
      return { kind: job.kind, usage: measureOwn(job.path, job.other, throwIfCanceled) };
    case "write-marks":
      writeMarks(job.branch, job.target, job.prefix, throwIfCanceled);
      return { kind: job.kind };
    case "check-names":
      checkNames(job.branch, throwIfCanceled);
      return { kind: job.kind };
    case "convert-branch":
      convertBranch(job.branch, job.form, throwIfCanceled);
      return { kind: job.kind };
    default:
      return job satisfies never;
  }
}
