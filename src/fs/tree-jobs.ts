/** Whole trees copied, linked, removed and measured, large ones in worker threads. */
import { availableParallelism } from "node:os";
import type { ByteString } from "../lib/bytes.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../sys/constants.ts";
import { open } from "../sys/syscalls.ts";
import type { CopiedTree } from "./copy-tree.ts";
import { diskUsage } from "./disk-usage.ts";
import { type CopiedInode, joinCopies, type LinkedPart, type LinkedTrees } from "./link-tree.ts";
import { measureTree, type TreeUsage } from "./tree-usage.ts";
import { BOTH, WorkShare } from "./walk-share.ts";
import { WorkerPool, workerUrl } from "./worker-pool.ts";

export type TreeJob =
  | { readonly kind: "copy"; readonly source: ByteString; readonly target: ByteString }
  | ({ readonly kind: "link" } & LinkedTrees)
  | { readonly kind: "remove"; readonly path: ByteString };

export type TreeResult =
  | { readonly kind: "copy"; readonly copied: CopiedTree }
  | ({ readonly kind: "link" } & LinkedPart)
  | { readonly kind: "remove" };

const THREADS = 2;
let shared: WorkerPool<TreeJob, TreeResult> | undefined;
function run(job: TreeJob, signal?: AbortSignal): Promise<TreeResult> {
  shared ??= new WorkerPool(workerUrl(import.meta.url, "./tree-worker"), THREADS);
  return shared.run(job, { signal });
}

/** See copyTree. A cancelled copy leaves what it has copied so far. */
export async function copyTreeInBackground(
  source: ByteString,
  target: ByteString,
  options: { readonly signal?: AbortSignal } = {},
): Promise<CopiedTree> {
  const result = await run({ kind: "copy", source, target }, options.signal);
  return (result as Extract<TreeResult, { kind: "copy" }>).copied;
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
  const threads = Math.min(THREADS, availableParallelism());
  const parts = await Promise.allSettled(Array.from({ length: threads }, () => run(job, options.signal)));
  let entries = 0;
  const copied: CopiedInode[] = [];
  for (const part of parts) {
    if (part.status === "rejected") throw part.reason;
    const done = part.value as Extract<TreeResult, { kind: "link" }>;
    entries += done.entries;
    copied.push(...done.copied);
  }
  joinCopies(target, copied);
  return { entries, copied: copied.length };
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
