/**
 * The thread that serves unions, one after another: it opens the layers and says so, is then told the descriptor of the mount,
 * and answers the kernel until the mount is gone. Its blocking calls leave the process's main thread free to hear signals.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type PlainError, toPlainError } from "../../errors/lamella-error.ts";
import * as raw from "../../sys/raw.ts";
import { KeepAwake } from "../keep-awake.ts";
import { serve } from "../session.ts";
import { SlowCalls } from "../slow-calls.ts";
import type { UnionOptions } from "./union.ts";
import { UnionFileSystem } from "./union-file-system.ts";

/** What the thread says: of the union it was to open, of what went wrong inside, and that the mount is gone. */
export type UnionNews =
  | { readonly type: "opened"; readonly error?: PlainError }
  | { readonly type: "problem"; readonly error: PlainError }
  | { readonly type: "over" };

/** What it is told: which union to open; then the device of its mount, which it closes, or nothing when there is none. */
export type UnionOrder = { readonly options: UnionOptions } | { readonly device: number | undefined };

const port = parentPort;
const { ring, memory } = workerData as {
  readonly ring: SharedArrayBuffer;
  readonly memory: SharedArrayBuffer | undefined;
};
const keepAwake = memory && new KeepAwake(memory);
const say = (news: UnionNews): void => port?.postMessage(news);
let opened: UnionFileSystem | undefined;

function open(options: UnionOptions): void {
  try {
    opened = new UnionFileSystem(options);
  } catch (error) {
    say({ type: "opened", error: toPlainError(error) });
    return;
  }
  say({ type: "opened" });
}

function answer(device: number | undefined): void {
  if (opened === undefined) return;
  using union = opened;
  opened = undefined;
  if (device === undefined) return;
  const slowCalls = new SlowCalls(ring, device);
  serve(device, union, {
    passthrough: true,
    slowCalls,
    keepAwake,
    onError: (error) => say({ type: "problem", error: toPlainError(error) }),
  });
  slowCalls.finish();
  raw.close(device);
}

port?.on("message", (order: UnionOrder) => {
  if ("options" in order) {
    open(order.options);
    return;
  }
  answer(order.device);
  if (order.device !== undefined) say({ type: "over" });
});
