/** The thread that spins (./keep-awake.ts). It says when it is there. */
import { parentPort, workerData } from "node:worker_threads";
import { spinWhileAsked } from "./keep-awake.ts";

const { memory } = workerData as { readonly memory: SharedArrayBuffer };
parentPort?.postMessage({});
spinWhileAsked(memory);
