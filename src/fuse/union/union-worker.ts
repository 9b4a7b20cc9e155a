/**
 * The thread that serves a union: it opens the layers and says so, is then told the descriptor of the mount, and answers the
 * kernel until the mount is gone. Its blocking calls leave the process's main thread free to hear signals.
 */
import { parentPort, workerData } from "node:worker_threads";
import { toPlainError } from "../../errors/lamella-error.ts";
import { serve } from "../session.ts";
import { SlowCalls } from "../slow-calls.ts";
import type { UnionOptions } from "./union.ts";
import { UnionFileSystem } from "./union-file-system.ts";

function run(): void {
  const port = parentPort;
  if (port === null) return;
  const { options, ring } = workerData as { readonly options: UnionOptions; readonly ring: SharedArrayBuffer };
  let union: UnionFileSystem;
  try {
    union = new UnionFileSystem(options);
  } catch (error) {
    port.postMessage({ error: toPlainError(error) });
    return;
  }
  port.once("message", (device: number) => {
    using _union = union;
    serve(device, union, {
      passthrough: true,
      slowCalls: new SlowCalls(ring),
      onError: (error) => port.postMessage(toPlainError(error)),
    });
  });
  port.postMessage({});
}

run();
