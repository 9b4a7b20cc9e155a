import { copyLinked, copyPart } from "./copy-tree.ts";
import { linkPart } from "./link-tree.ts";
import { removeTree } from "./remove-tree.ts";
import type { TreeJob, TreeResult } from "./tree-jobs.ts";
import { serveJobs } from "./worker-pool.ts";

serveJobs<TreeJob, TreeResult>((job, context) => {
  const checkpoint = (): void => context.throwIfCanceled();
  switch (job.kind) {
    case "copy":
      return { kind: "copy", ...copyPart(job, checkpoint) };
    case "copy-linked":
      return { kind: "copy-linked", ...copyLinked(job, job.linked, checkpoint) };
    case "link":
      return { kind: "link", ...linkPart(job, checkpoint) };
    case "remove":
      removeTree(job.path, { checkpoint });
      return { kind: "remove" };
    default:
      return job satisfies never;
  }
});
