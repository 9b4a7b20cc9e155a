/** The worker thread that applies layers or records their tars. */
import { serveJobs } from "../fs/worker-pool.ts";
import type { AppliedLayer } from "./apply-applier.ts";
import { type ApplyJob, type ReadSoFar, type RecordedTar, type RecordJob, runApply, runRecord } from "./apply-jobs.ts";

serveJobs<ApplyJob | RecordJob, AppliedLayer | RecordedTar, ReadSoFar>((job, context) =>
  job.kind === "apply" ? runApply(job, context) : runRecord(job, context),
);
