/** The worker thread of ./stack-jobs.ts. */
import { serveJobs } from "../fs/worker-pool.ts";
import { runStackJob, type StackJob, type StackResult } from "./stack-jobs.ts";

serveJobs<StackJob, StackResult>(runStackJob);
