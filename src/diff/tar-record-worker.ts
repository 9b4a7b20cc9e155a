/** The worker thread that makes tars again from their records. */
import { pieceSender } from "../fs/pieces.ts";
import { serveJobs } from "../fs/worker-pool.ts";
import { type ReadJob, TarMaker } from "./tar-record-job.ts";

serveJobs<ReadJob, number, Uint8Array>((job, context) => {
  using maker = new TarMaker(job, pieceSender(job, context));
  return maker.make();
});
