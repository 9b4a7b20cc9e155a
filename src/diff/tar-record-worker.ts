/** The worker thread that makes tars again from their records. */
import { serveJobs } from "../fs/worker-pool.ts";
import { maxPieces, type ReadJob, TarMaker } from "./tar-record-job.ts";

const turnMs = 50;

serveJobs<ReadJob, number, Uint8Array>((job, context) => {
  const credit = new Int32Array(job.credit);
  let posted = 0;
  using maker = new TarMaker(job, (piece) => {
    for (;;) {
      context.throwIfCanceled();
      const done = Atomics.load(credit, 0);
      if (posted - done < maxPieces || Atomics.load(credit, 1) === 1) break;
      Atomics.wait(credit, 0, done, turnMs);
    }
    posted++;
    context.post(piece, [piece.buffer]);
  });
  return maker.make();
});
