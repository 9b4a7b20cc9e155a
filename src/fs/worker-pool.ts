/**
 * Worker threads for loops over files. The loops are synchronous code over system calls; a pool gives each job a thread of
 * its own and the caller a promise.
 *
 * One worker file serves one typed union of jobs: it calls {@link serveJobs} once. The caller makes one {@link WorkerPool}
 * for that file. Threads start when first needed, are reused, and never keep the process alive while idle. A job that is
 * aborted is told through shared memory and ends at its next `throwIfCanceled`, so that its clean-up runs; threads are not
 * killed with descriptors open.
 */
import {
  MessageChannel,
  type MessagePort,
  parentPort,
  type TransferListItem,
  Worker,
  workerData,
} from "node:worker_threads";
import { fromPlainError, LamellaError, type PlainError, toPlainError } from "../errors/lamella-error.ts";

/** The URL of a worker file that lies beside `importMetaUrl`: `workerUrl(import.meta.url, "./walk-worker")`. */
export function workerUrl(importMetaUrl: string, name: string): URL {
  return new URL(name + (importMetaUrl.endsWith(".ts") ? ".ts" : ".js"), importMetaUrl);
}

interface Request {
  readonly job: unknown;
  readonly port: MessagePort;
}

type Reply =
  | { readonly type: "event"; readonly event: unknown }
  | { readonly type: "done"; readonly result: unknown }
  | { readonly type: "failed"; readonly error: PlainError };

/** What a job sees of its surroundings. */
export interface JobContext<Event> {
  /** Sends an event to the caller of `run`. */
  post(event: Event, transfer?: readonly TransferListItem[]): void;
  /** Throws the `canceled` error once the caller has aborted. Cheap: one atomic load. */
  throwIfCanceled(): void;
}

/** In a worker file: answers every job of the pool with `run`. Jobs of one thread run one after another. */
export function serveJobs<Job, Result, Event = never>(
  run: (job: Job, context: JobContext<Event>) => Result | Promise<Result>,
): void {
  const canceled = workerData as Int32Array;
  let last: Promise<void> = Promise.resolve();
  const serve = async ({ job, port }: Request): Promise<void> => {
    try {
      const result = await run(job as Job, {
        post: (event, transfer) => port.postMessage({ type: "event", event } satisfies Reply, transfer),
        throwIfCanceled: () => {
          if (Atomics.load(canceled, 0) === 1)
            throw new LamellaError("canceled", "ABORTED", "the operation was canceled");
        },
      });
      port.postMessage({ type: "done", result } satisfies Reply);
    } catch (error) {
      port.postMessage({ type: "failed", error: toPlainError(error) } satisfies Reply);
    }
  };
  parentPort?.on("message", (request: Request) => {
    last = last.then(() => serve(request));
  });
  parentPort?.postMessage("loaded");
}

interface Thread {
  readonly worker: Worker;
  readonly canceled: Int32Array;
  /** Its code is there. A thread that ends while it loads native code takes the process along. */
  readonly loaded: Promise<void>;
  fail: ((error: Error) => void) | undefined;
}

export interface RunOptions<Event> {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: Event) => void) | undefined;
  readonly transfer?: readonly TransferListItem[];
}

/** A bounded set of threads that run the jobs of one worker file. */
export class WorkerPool<Job, Result, Event = never> implements AsyncDisposable {
  readonly #url: URL;
  readonly #size: number;
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();
  readonly #waiting: ((thread: Thread) => void)[] = [];

  /** `size`: the most jobs that run at once; further ones wait. */
  constructor(url: URL, size: number) {
    this.#url = url;
    this.#size = size;
  }

  /** Starts threads ahead of need, so that the first jobs do not wait for them. */
  warm(count = 1): void {
    while (this.#all.size < Math.min(count, this.#size)) this.#idle.push(this.#start());
  }

  /** Runs one job. Errors: what the job throws; `canceled` when `signal` aborts; `internal` when the thread dies. */
  async run(job: Job, options: RunOptions<Event> = {}): Promise<Result> {
    const { signal, onEvent } = options;
    const thread = await this.#take();
    const cancel = (): void => void Atomics.store(thread.canceled, 0, 1);
    const { port1, port2 } = new MessageChannel();
    try {
      if (signal?.aborted) throw new LamellaError("canceled", "ABORTED", "the operation was canceled");
      signal?.addEventListener("abort", cancel, { once: true });
      thread.worker.ref();
      return await new Promise<Result>((resolve, reject) => {
        thread.fail = reject;
        port1.on("message", (reply: Reply) => {
          if (reply.type === "event") onEvent?.(reply.event as Event);
          else if (reply.type === "done") resolve(reply.result as Result);
          else reject(fromPlainError(reply.error));
        });
        const request: Request = { job, port: port2 };
        thread.worker.postMessage(request, [port2, ...(options.transfer ?? [])]);
      });
    } finally {
      port1.close();
      signal?.removeEventListener("abort", cancel);
      Atomics.store(thread.canceled, 0, 0);
      thread.fail = undefined;
      this.#give(thread);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const threads = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    const end = async ({ worker, loaded }: Thread): Promise<unknown> => {
      await loaded;
      return worker.terminate();
    };
    await Promise.all(threads.map(end));
  }

  #start(): Thread {
    const canceled = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(this.#url, { workerData: canceled });
    const loaded = new Promise<void>((resolve) => {
      for (const event of ["message", "error", "exit"]) worker.once(event, () => resolve());
    });
    const thread: Thread = { worker, canceled, loaded, fail: undefined };
    // Until then it keeps the process alive, a moment.
    void loaded.then(() => {
      if (this.#idle.includes(thread)) worker.unref();
    });
    this.#all.add(thread);
    const died = (error: Error): void => {
      this.#all.delete(thread);
      const at = this.#idle.indexOf(thread);
      if (at >= 0) this.#idle.splice(at, 1);
      thread.fail?.(error);
    };
    worker.on("error", died);
    worker.on("exit", (code) =>
      died(new LamellaError("internal", "WORKER_EXIT", `a worker thread ended with status ${code}`)),
    );
    return thread;
  }

  async #take(): Promise<Thread> {
    const idle = this.#idle.pop();
    if (idle) return idle;
    if (this.#all.size < this.#size) return this.#start();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #give(thread: Thread): void {
    const alive = this.#all.has(thread);
    const next = this.#waiting.shift();
    if (next) next(alive ? thread : this.#start());
    else if (alive) {
      thread.worker.unref();
      this.#idle.push(thread);
    }
  }
}
