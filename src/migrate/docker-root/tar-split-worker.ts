/** The worker thread that reads and writes tar-splits. */
import { pieceSender } from "../../fs/pieces.ts";
import { serveJobs } from "../../fs/worker-pool.ts";
import { type ReadSplitJob, readSplit, type WriteSplitJob, type WrittenSplit, writeSplit } from "./tar-split-jobs.ts";

serveJobs<ReadSplitJob | WriteSplitJob, WrittenSplit | undefined, Uint8Array>(async (job, context) => {
  if (job.kind === "write") return writeSplit(job);
  await readSplit(job, pieceSender(job, context));
  return undefined;
});
