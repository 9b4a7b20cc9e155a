/** The worker file of `walkTree`. */
import { type PartialTotals, sumShared, type WalkJob } from "./walk-totals.ts";
import { serveJobs } from "./worker-pool.ts";

serveJobs<WalkJob, PartialTotals>((job, context) => sumShared(job, () => context.throwIfCanceled()));
