/** The worker thread of ./tree-manifest.ts. */
import { serveJobs } from "../fs/worker-pool.ts";
import type { ManifestJob } from "./tree-manifest.ts";
import { writeManifest } from "./tree-manifest-write.ts";

serveJobs<ManifestJob, void>(({ tree, path, clock }, { throwIfCanceled }) =>
  writeManifest(tree, path, { checkpoint: throwIfCanceled, ...(clock && { clock }) }),
);
