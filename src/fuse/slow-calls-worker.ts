/** The thread that makes calls which may wait for the disk (./slow-calls.ts). It says when it is there. */
import { parentPort, workerData } from "node:worker_threads";
import { MAX_DATA } from "./negotiate.ts";
import { makeSlowCalls } from "./slow-calls.ts";

const { ring } = workerData as { readonly ring: SharedArrayBuffer };
parentPort?.postMessage({});
makeSlowCalls(ring, MAX_DATA);
