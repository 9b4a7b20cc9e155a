/**
 * The thread that serves a union: it opens the layers and says so, is then told the descriptor of the mount, and answers the
 * kernel until the mount is gone. Its blocking calls leave the process's main thread free to hear signals.
 */
import { parentPort, workerData } from "node:worker_threads";
import { toPlainError } from "../../errors/lamella-error.ts";
import { serve } from "../session.ts";
import type { UnionOptions } from "./union.ts";
import { UnionFileSystem } from "./union-file-system.ts";

function run(): void {
  const port = parentPort;
  if (port === null) return;
  let union: UnionFileSystem;
  try {
    union = new UnionFileSystem(workerData as UnionOptions);
  } catch (error) {
    port.postMessage({ error: toPlainError(error) });
    return;
  }
  port.once("message", (fd: number) => {
    using _union = union;
    serve(fd, union, { passthrough: true, onError: (error) => port.postMessage(toPlainError(error)) });
  });
  port.postMessage({});
}

run();
