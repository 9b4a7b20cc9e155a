/** The worker file of ./trees-threads.ts. */
import { parentPort } from "node:worker_threads";
import { type HelperRequest, help } from "./trees-threads.ts";

parentPort?.on("message", (request: HelperRequest) => help(request));
