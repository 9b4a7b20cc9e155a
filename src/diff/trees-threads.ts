/**
 * Comparing two trees with several threads, from synchronous code.
 *
 * The caller starts comparing at once. When the trees turn out not to be small it starts helpers, which join as soon as they
 * run and take over directories that wait. At the end the caller blocks until the helpers that joined have delivered; those
 * that did not are told not to. A helper's state is one cell of shared memory:
 *
 * ```
 * asked -> joined -> delivered        or        asked -> dismissed
 * ```
 * Helpers get descriptors, not paths: what is mounted in the caller's mount namespace alone is open to them too.
 */
import { availableParallelism } from "node:os";
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { fromPlainError, type PlainError, toPlainError } from "../errors/lamella-error.ts";
import { WorkShare } from "../fs/walk-share.ts";
import { workerUrl } from "../fs/worker-pool.ts";
import { type ComparedTrees, compareShared } from "./trees-compare.ts";
import { addFindings, type Findings, noFindings } from "./trees-findings.ts";

const ASKED = 0;
const JOINED = 1;
const DELIVERED = 2;
const DISMISSED = 3;

/** What a helper is sent. */
export interface HelperRequest {
  readonly trees: ComparedTrees;
  readonly state: Int32Array;
  readonly port: MessagePort;
}

type HelperReply = { readonly findings: Findings } | { readonly error: PlainError };

/** Names to have looked at before another thread is worth its start. */
const WORTH_HELP = 4000;
const helpers: Worker[] = [];

interface Helping {
  readonly state: Int32Array;
  readonly port: MessagePort;
}

function askHelper(index: number, trees: ComparedTrees): Helping {
  let worker = helpers[index];
  if (worker === undefined) {
    worker = new Worker(workerUrl(import.meta.url, "./trees-worker"));
    worker.unref();
    worker.on("exit", () => {
      if (helpers[index] === worker) delete helpers[index];
    });
    helpers[index] = worker;
  }
  const state = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  port1.unref();
  worker.postMessage({ trees, state, port: port2 } satisfies HelperRequest, [port2]);
  return { state, port: port1 };
}

/** Waits for a helper that joined; undefined from one that did not. */
function collect({ state, port }: Helping): HelperReply | undefined {
  try {
    if (Atomics.compareExchange(state, 0, ASKED, DISMISSED) === ASKED) return undefined;
    Atomics.wait(state, 0, JOINED);
    return receiveMessageOnPort(port)?.message as HelperReply | undefined;
  } finally {
    port.close();
  }
}

export interface CompareOptions {
  /** The most threads, this one among them. Default: as many as there are processors, at most four. */
  readonly threads: number | undefined;
  /** Called once a directory in this thread; may throw to end it. */
  readonly check: () => void;
}

/** Compares two trees with several threads. */
export function compareTrees(trees: ComparedTrees, { threads, check }: CompareOptions): Findings {
  const most = (threads ?? Math.min(4, availableParallelism())) - 1;
  const asked: Helping[] = [];
  let findings = noFindings();
  let error: unknown;
  const add = (more: Findings): void => {
    findings = addFindings(findings, more);
  };
  try {
    add(
      compareShared(trees, (seen) => {
        check();
        if (seen < WORTH_HELP) return;
        while (asked.length < most) asked.push(askHelper(asked.length, trees));
      }),
    );
  } catch (thrown) {
    error = thrown;
    new WorkShare(trees.share).stop();
  }
  for (const helping of asked) {
    const reply = collect(helping);
    if (reply === undefined) continue;
    if ("findings" in reply) add(reply.findings);
    else error ??= fromPlainError(reply.error);
  }
  if (error !== undefined) throw error;
  return findings;
}

/** The helper's side. */
export function help({ trees, state, port }: HelperRequest): void {
  if (Atomics.compareExchange(state, 0, ASKED, JOINED) !== ASKED) {
    port.close();
    return;
  }
  let reply: HelperReply;
  try {
    reply = { findings: compareShared(trees, () => undefined) };
  } catch (error) {
    reply = { error: toPlainError(error) };
  }
  port.postMessage(reply);
  Atomics.store(state, 0, DELIVERED);
  Atomics.notify(state, 0);
  port.close();
}
