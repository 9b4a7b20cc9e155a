/** Worker thread of ./export-layer.ts. */
import { serveJobs } from "../fs/worker-pool.ts";
import { type DiffJob, type ExportResult, exportChanges, type ListResult, listSource } from "./export-job.ts";

serveJobs<DiffJob, ExportResult | ListResult>((job, { throwIfCanceled }) =>
  job.kind === "export" ? exportChanges(job, throwIfCanceled) : listSource(job.source, throwIfCanceled),
);
