/**
 * The threads that carry out build steps: containers, copies, directories. Each has mount namespaces of its own
 * (runtime/thread-namespaces.ts) and stays warm between steps. One pool for each kind of network, since a thread that has
 * left the host's network cannot always come back.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { findProgram } from "../fs/find-program.ts";
import type { RunOptions } from "../fs/worker-pool.ts";
import { bytesOfText } from "../lib/bytes.ts";
import type { CopyJob, CopyReport, DigestJob, DirectoryJob } from "./copy/copy-job.ts";
import type {
  ContainerExit,
  ContainerNetwork,
  ContainerOutput,
  ContainerSpec,
  RuntimeEngine,
} from "./runtime/container-spec.ts";
import type { StepEvent, StepResult, StepWork, ThreadSetup } from "./step-jobs.ts";
import { defaultParallelism, type StepPool, takeStepPool } from "./step-pool.ts";

export interface StepThreadsOptions {
  /** An existing directory the threads need nothing of; each covers it with a tmpfs that nobody else sees. */
  readonly scratch: string;
  /** Where programs of the host are looked for: the directories of PATH. */
  readonly searchPath: readonly string[];
  /** What runs containers; default: crun if installed, else runc, else the built-in sandbox. */
  readonly engine?: "crun" | "runc" | "builtin" | undefined;
  /** The most steps at once; default the number of processors. */
  readonly parallelism?: number | undefined;
}

export interface RunContainerOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onOutput?: ((output: ContainerOutput) => void) | undefined;
}

/** The engine of that name, or the best one there is. Errors: not_found when the one asked for is not installed. */
export function chooseEngine(
  searchPath: readonly string[],
  wanted?: "crun" | "runc" | "builtin" | undefined,
): RuntimeEngine {
  if (wanted === "builtin") return { kind: "builtin" };
  for (const kind of ["crun", "runc"] as const) {
    if (wanted !== undefined && wanted !== kind) continue;
    const path = findProgram(kind, searchPath);
    if (path !== undefined) return { kind, path };
  }
  if (wanted === undefined) return { kind: "builtin" };
  throw new LamellaError("not_found", "NO_RUNTIME", `${wanted} is not installed`, {
    hint: `install ${wanted}, or use the built-in sandbox`,
  });
}

export class StepThreads implements AsyncDisposable {
  readonly engine: RuntimeEngine;
  readonly #setup: Omit<ThreadSetup, "network">;
  readonly #size: number;
  readonly #pools = new Map<ContainerNetwork, StepPool>();
  readonly #warming = new Map<ContainerNetwork, Promise<void>>();

  constructor(options: StepThreadsOptions) {
    this.engine = chooseEngine(options.searchPath, options.engine);
    this.#size = options.parallelism ?? defaultParallelism;
    this.#setup = {
      scratch: bytesOfText(options.scratch),
      engine: this.engine,
      tools: { sh: findProgram("sh", options.searchPath), mount: findProgram("mount", options.searchPath) },
    };
  }

  /**
   * Starts a thread and all a container waits for, so that the first step finds it ready. Settles when it is; failures show
   * at that step. A step that comes before waits for this thread instead of starting one of its own.
   */
  async warm(network: ContainerNetwork): Promise<void> {
    const warming = this.#start({ kind: "warm" }, network).then(
      () => {},
      () => {},
    );
    this.#warming.set(network, warming);
    await warming;
  }

  /**
   * Runs a container. Errors: failed_precondition COMMAND_NOT_FOUND (127), COMMAND_NOT_EXECUTABLE (126), RUNTIME_FAILED
   * (125), UNMAPPED_ID; canceled, after everything the container started has been killed.
   */
  async runContainer(spec: ContainerSpec, options: RunContainerOptions = {}): Promise<ContainerExit> {
    const result = await this.#run({ kind: "run", spec }, spec.network, {
      signal: options.signal,
      onEvent: options.onOutput,
    });
    if (result.kind !== "run") throw mismatch(result);
    return result.exit;
  }

  /** Copies files into a layer. */
  async copy(job: CopyJob, signal?: AbortSignal): Promise<CopyReport> {
    const result = await this.#run(job, "host", { signal });
    if (result.kind !== "copy") throw mismatch(result);
    return result.report;
  }

  /** The content digest of what a COPY would copy, see digestSources. */
  async digest(job: DigestJob, signal?: AbortSignal): Promise<string> {
    const result = await this.#run(job, "host", { signal });
    if (result.kind !== "digest") throw mismatch(result);
    return result.digest;
  }

  /** Makes a directory in a layer; answers whether the layer is still empty, where that is known. */
  async makeDirectory(job: DirectoryJob, signal?: AbortSignal): Promise<boolean | undefined> {
    const result = await this.#run(job, "host", { signal });
    if (result.kind !== "directory") throw mismatch(result);
    return result.unchanged;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool[Symbol.asyncDispose]()));
  }

  async #run(work: StepWork, network: ContainerNetwork, options?: RunOptions<StepEvent>): Promise<StepResult> {
    await this.#warming.get(network);
    return this.#start(work, network, options);
  }

  #start(work: StepWork, network: ContainerNetwork, options: RunOptions<StepEvent> = {}): Promise<StepResult> {
    let pool = this.#pools.get(network);
    if (pool === undefined) {
      pool = takeStepPool(this.#size);
      this.#pools.set(network, pool);
    }
    return pool.run({ setup: { ...this.#setup, network }, work }, options);
  }
}

function mismatch(result: StepResult): LamellaError {
  return new LamellaError("internal", "STEP_RESULT", `a step thread answered with the result of a ${result.kind}`);
}
