/** Whole trees copied, linked, removed and measured, large ones in worker threads. */
import { availableParallelism } from "node:os";
import type { ByteString } from "../lib/bytes.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../sys/constants.ts";
import { open } from "../sys/syscalls.ts";
import { type CopiedPart, type CopiedTree, type LinkedName, openTrees, sumOf, type TreePair } from "./copy-tree.ts";
import { diskUsage } from "./disk-usage.ts";
import { joinCopies, type LinkedPart } from "./link-tree.ts";
import { measureTree, type TreeUsage } from "./tree-usage.ts";
import { BOTH, WorkShare } from "./walk-share.ts";
import { WorkerPool, workerUrl } from "./worker-pool.ts";

export type TreeJob =
  | ({ readonly kind: "copy" } & TreePair)
  | ({ readonly kind: "copy-linked"; readonly linked: readonly LinkedName[] } & TreePair)
  | ({ readonly kind: "link" } & TreePair)
  | { readonly kind: "remove"; readonly path: ByteString };

export type TreeResult =
  | ({ readonly kind: "copy" } & CopiedPart)
  | ({ readonly kind: "copy-linked" } & CopiedTree)
  | ({ readonly kind: "link" } & LinkedPart)
  | { readonly kind: "remove" };

const THREADS = 2;
let shared: WorkerPool<TreeJob, TreeResult> | undefined;
function run(job: TreeJob, signal?: AbortSignal): Promise<TreeResult> {
  shared ??= new WorkerPool(workerUrl(import.meta.url, "./tree-worker"), THREADS);
  return shared.run(job, { signal });
}

/** The same job in every thread at once; their answers, when all have ended. */
async function runInAll<K extends "copy" | "link">(
  job: Extract<TreeJob, { kind: K }>,
  signal: AbortSignal | undefined,
): Promise<Extract<TreeResult, { kind: K }>[]> {
  const threads = Math.min(THREADS, availableParallelism());
  const parts = await Promise.allSettled(Array.from({ length: threads }, () => run(job, signal)));
  return parts.map((part) => {
    if (part.status === "rejected") throw part.reason;
    return part.value as Extract<TreeResult, { kind: K }>;
  });
}

/** See copyTree. A cancelled copy leaves what it has copied so far. */
export async function copyTreeInBackground(
  source: ByteString,
  target: ByteString,
  options: { readonly signal?: AbortSignal } = {},
): Promise<CopiedTree> {
  const { from, to } = openTrees(source, target);
  using _from = from;
  using _to = to;
  const pair = { share: WorkShare.start(BOTH).memory, fromFd: from.fd, toFd: to.fd };
  const parts = await runInAll({ kind: "copy", ...pair }, options.signal);
  const linked = parts.flatMap((part) => part.linked);
  const last = await run({ kind: "copy-linked", ...pair, linked }, options.signal);
  return sumOf([...parts, last as Extract<TreeResult, { kind: "copy-linked" }>]);
}

/** What linking a tree did. */
export interface LinkedTree {
  readonly entries: number;
  /** Objects that had to be copied. */
  readonly copied: number;
}

/**
 * Makes the empty directory `target` a tree of hard links of `source`, see ./link-tree.ts. Nothing changes the source
 * meanwhile. A failed or cancelled one leaves what there is so far.
 */
export async function linkTreeInBackground(
  source: ByteString,
  target: ByteString,
  options: { readonly signal?: AbortSignal } = {},
): Promise<LinkedTree> {
  using from = open(source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  using to = open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const job = { kind: "link", share: WorkShare.start(BOTH).memory, fromFd: from.fd, toFd: to.fd } as const;
  const parts = await runInAll(job, options.signal);
  const copied = parts.flatMap((part) => part.copied);
  joinCopies(target, copied);
  return { entries: parts.reduce((sum, part) => sum + part.entries, 0), copied: copied.length };
}

/** See removeTree. */
export async function removeTreeInBackground(path: ByteString): Promise<void> {
  await run({ kind: "remove", path });
}

const ENOUGH = new Error("more than is measured on the spot");

/** See measureTree: small trees on the spot, large ones in a worker thread. */
export async function treeUsage(path: ByteString): Promise<TreeUsage> {
  let directories = 0;
  try {
    return measureTree(path, () => {
      if (++directories > 50) throw ENOUGH;
    });
  } catch (error) {
    if (error !== ENOUGH) throw error;
  }
  return diskUsage(path, { oneFileSystem: true });
}
