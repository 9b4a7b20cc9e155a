/**
 * Builds an image from a Dockerfile.
 *
 * Needed stages start together and wait for each other where one stands on or copies from another. Nothing is published
 * while they run: at the end one `publish` makes all layers durable and known, with the image, its tags and the cache rows
 * of every step. When a step fails, what was finished before it is published as cache alone; when the build is canceled,
 * nothing is, and nothing stays mounted or on disk.
 */
import { warmExport } from "../diff/export-layer.ts";
import {
  expandInstruction,
  type FromInstruction,
  type Instruction,
  parseDockerfile,
  type Stage,
} from "../dockerfile/index.ts";
import { isLamellaError, LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { encodeConfig, type HistoryEntry, type ImageConfig } from "../oci/config.ts";
import { type Platform, parsePlatform, platformOfConfig, platformOfNode, samePlatform } from "../oci/index.ts";
import type { StagedLayer } from "../store/requests.ts";
import type { Store } from "../store/store.ts";
import type { ImageRecord } from "../store/types.ts";
import { GlobalArgs, platformArgs } from "./build-args.ts";
import { BuildError } from "./build-error.ts";
import type { BuildEvent, BuildStep } from "./build-events.ts";
import { readBuildFiles } from "./build-files.ts";
import { type BaseImage, type BuildSession, type CacheRow, chainOf, type StageResult } from "./build-session.ts";
import { baseStage, neededStages, targetStage } from "./plan.ts";
import type { ContainerNetwork } from "./runtime/container-spec.ts";
import { type StageBase, StageRunner } from "./stage-runner.ts";
import { StepThreads, type StepThreadsOptions } from "./step-threads.ts";

export interface BuildOptions {
  readonly store: Store;
  /** Directory with the files COPY and ADD take. Without it they take none. */
  readonly context?: string | undefined;
  /** Path of the Dockerfile; relative ones start at the context. Default `Dockerfile`. */
  readonly file?: string | undefined;
  /** The Dockerfile's text, in place of a file. */
  readonly dockerfile?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  /** Name or number of the stage to build; default the last. */
  readonly target?: string | undefined;
  readonly buildArgs?: Readonly<Record<string, string>> | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Carry every step out; what comes of it is noted for later builds all the same. */
  readonly noCache?: boolean | undefined;
  /** The network of RUN steps; default `host`. */
  readonly network?: ContainerNetwork | undefined;
  /** `os/arch[/variant]` the image is for; default this machine's. */
  readonly platform?: string | Platform | undefined;
  /** Seconds since 1970: no time in the image is later, and those of new steps are exactly this. */
  readonly sourceDateEpoch?: number | undefined;
  /** Contents for `RUN --mount=type=secret`, by id. */
  readonly secrets?: Readonly<Record<string, Uint8Array>> | undefined;
  /** Threads to use, which stay the caller's; or how to make some for this build. */
  readonly threads: StepThreads | Omit<StepThreadsOptions, "scratch">;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: BuildEvent) => void) | undefined;
}

export interface BuildResult {
  readonly image: ImageRecord;
  /** Every step that was carried out or found, in the order they began. */
  readonly steps: number;
  readonly warnings: readonly string[];
}

/**
 * Builds and publishes. Errors: BuildError and DockerfileError with the line; not_found for a file, image or stage;
 * canceled, after everything has been cleaned up.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const { store, threads } = options;
  if (threads instanceof StepThreads) return new Build(options, threads).run();
  await using own = new StepThreads({ ...threads, scratch: `${store.root}/tmp` });
  return await new Build(options, own).run();
}

class Build {
  readonly #options: BuildOptions;
  readonly #threads: StepThreads;
  readonly #abort = new AbortController();
  readonly #stages = new Map<number, Promise<StageResult>>();
  readonly #images = new Map<string, Promise<BaseImage>>();
  readonly #staged: { readonly step: BuildStep; readonly staged: StagedLayer }[] = [];
  readonly #rows: CacheRow[] = [];
  readonly #holds: Disposable[] = [];
  readonly #uses: AsyncDisposable[] = [];
  readonly #background: Promise<unknown>[] = [];
  readonly #warnings: string[] = [];
  #steps = 0;

  constructor(options: BuildOptions, threads: StepThreads) {
    this.#options = options;
    this.#threads = threads;
  }

  async run(): Promise<BuildResult> {
    const { signal, network = "host" } = this.#options;
    throwIfAborted(signal);
    const cancel = (): void => this.#abort.abort(signal?.reason);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      const files = readFiles(this.#options);
      const dockerfile = parseDockerfile(files.dockerfile, { fileName: files.fileName });
      const target = targetStage(dockerfile, this.#options.target);
      const globals = this.#globals(dockerfile.globalArgs, files.fileName);
      const froms = new Map<number, FromInstruction>();
      for (const stage of dockerfile.stages) {
        if (stage.index > target.index) break;
        const from = expandInstruction(stage.from, (name) => globals.lookup(name), {
          escape: dockerfile.directives.escape,
          fileName: files.fileName,
        });
        froms.set(stage.index, from);
      }
      const needed = neededStages(dockerfile.stages, target, (stage) => froms.get(stage.index)?.image ?? stage.base);
      const runs = needed.some((i) => dockerfile.stages[i]?.instructions.some(({ kind }) => kind === "run"));
      // The thread of the first step before that of the first export: both at once would make the step wait for both.
      if (runs) void this.#threads.warm(network).then(warmExport);
      else warmExport();

      const session = this.#session({ ...files, ...dockerfile.directives, stages: dockerfile.stages }, (index) => {
        const stage = dockerfile.stages[index];
        const from = froms.get(index);
        if (stage === undefined || from === undefined) throw new LamellaError("internal", "STAGE", `no stage ${index}`);
        const extra = index === target.index ? this.#labels(stage) : [];
        return this.#runStage(session, stage, from, globals, extra);
      });
      const result = await this.#finish(session, needed, target.index);
      for (const name of globals.unused()) this.#warn(`the build argument ${name} is used by no ARG`, undefined);
      const image = await this.#publish(result);
      return { image, steps: this.#steps, warnings: this.#warnings };
    } catch (error) {
      await this.#giveUp(error);
      throw error;
    } finally {
      signal?.removeEventListener("abort", cancel);
      for (const failure of await Promise.allSettled(this.#background)) {
        if (failure.status === "rejected") this.#warn(`clean-up failed: ${messageOf(failure.reason)}`, undefined);
      }
      for (const use of this.#uses) await use[Symbol.asyncDispose]();
      for (const hold of this.#holds) hold[Symbol.dispose]();
    }
  }

  /** Waits for all stages, so that none is still at work when the build ends; throws what failed first. */
  async #finish(session: BuildSession, needed: readonly number[], target: number): Promise<StageResult> {
    let first: unknown;
    const all = needed.map((index) =>
      session.stage(index).catch((error: unknown) => {
        if (first === undefined || isLamellaError(first, "canceled")) first = error;
        this.#abort.abort();
        throw error;
      }),
    );
    await Promise.allSettled(all);
    await Promise.allSettled(this.#stages.values());
    throwIfAborted(this.#options.signal);
    if (first !== undefined) throw first;
    return session.stage(target);
  }

  #session(
    file: {
      readonly fileName: string;
      readonly escape: "\\" | "`";
      readonly ignore: string;
      readonly ignoreName: string;
      readonly stages: readonly Stage[];
    },
    start: (index: number) => Promise<StageResult>,
  ): BuildSession {
    const { store, context, network = "host", noCache = false, sourceDateEpoch, secrets = {} } = this.#options;
    return {
      store,
      threads: this.#threads,
      fileName: file.fileName,
      escape: file.escape,
      stages: file.stages,
      context,
      ignore: file.ignore,
      ignoreName: file.ignoreName,
      network,
      noCache,
      sourceDateEpoch,
      secrets: new Map(Object.entries(secrets)),
      signal: this.#abort.signal,
      emit: (event) => this.#emit(event),
      nextStepId: () => this.#steps++,
      stage: (index) => {
        let running = this.#stages.get(index);
        if (running === undefined) {
          running = start(index);
          this.#stages.set(index, running);
        }
        return running;
      },
      image: (name) => this.#image(name),
      hold: (chainId) => void this.#holds.push(store.hold(chainId)),
      keep: (use) => {
        this.#uses.push(use);
        return use.value;
      },
      addLayer: (step, staged) => {
        this.#staged.push({ step, staged });
        staged.done.then(
          ({ exported }) => exported && this.#emit({ kind: "layer", step, layer: exported }),
          () => {},
        );
      },
      addCacheRow: (row) => void this.#rows.push(row),
      inBackground: (work) => void this.#background.push(work),
    };
  }

  async #runStage(
    session: BuildSession,
    stage: Stage,
    from: FromInstruction,
    globals: GlobalArgs,
    extra: readonly Instruction[],
  ): Promise<StageResult> {
    const platform = from.platform === undefined ? this.#platform() : parsePlatform(from.platform, hostPlatform());
    let base: StageBase["from"];
    const other = baseStage(session.stages, stage, from.image);
    if (other !== undefined) base = { kind: "stage", result: await session.stage(other.index) };
    else if (from.image !== "scratch") {
      const image = await this.#baseImage(session, from);
      const own = platformOfConfig(image.config);
      if (!samePlatform(own, platform)) {
        this.#warn(
          `${from.image} is for ${own.os}/${own.architecture}, not for ${platform.os}/${platform.architecture}`,
          from.startLine,
        );
      }
      base = { kind: "image", image };
    }
    return new StageRunner(session, { stage, args: globals.stage(), from: base, platform, extra }).run();
  }

  async #baseImage(session: BuildSession, from: FromInstruction): Promise<BaseImage> {
    const details = { fileName: session.fileName, line: from.startLine, text: from.original };
    if (from.image === "") {
      throw new BuildError("invalid_argument", "NO_BASE", "the image name is empty", details, {
        hint: "give the argument it comes from a value, with ARG before FROM or --build-arg",
      });
    }
    try {
      return await session.image(from.image);
    } catch (error) {
      if (!(error instanceof LamellaError)) throw error;
      throw new BuildError(error.kind, error.code, error.message, details, { hint: error.hint, cause: error });
    }
  }

  #image(name: string): Promise<BaseImage> {
    let found = this.#images.get(name);
    if (found === undefined) {
      found = (async () => {
        const { store } = this.#options;
        const record = store.image(name);
        if (record.chainId !== undefined) this.#holds.push(store.hold(record.chainId));
        const { config } = await store.config(record.id);
        return { record, config, layers: store.layersOf(record.chainId) };
      })();
      this.#images.set(name, found);
    }
    return found;
  }

  #globals(declared: readonly Extract<Instruction, { kind: "arg" }>[], fileName: string): GlobalArgs {
    const given = new Map(Object.entries(this.#options.buildArgs ?? {}));
    const globals = new GlobalArgs(given, platformArgs(this.#platform(), hostPlatform()));
    for (const arg of declared) globals.declare(expandInstruction(arg, (name) => globals.lookup(name), { fileName }));
    return globals;
  }

  #platform(): Platform {
    const { platform } = this.#options;
    if (platform === undefined) return hostPlatform();
    return typeof platform === "string" ? parsePlatform(platform, hostPlatform()) : platform;
  }

  /** `--label` as one LABEL at the end. */
  #labels(stage: Stage): readonly Instruction[] {
    const pairs = Object.entries(this.#options.labels ?? {})
      .sort(([a], [b]) => (a < b ? -1 : 1))
      // The words are expanded like any instruction's: quoted, they stay as they are.
      .map(([name, value]) => ({ name: quoted(name), value: quoted(value) }));
    if (pairs.length === 0) return [];
    const { startLine, endLine } = stage.from;
    const original = `LABEL ${pairs.map(({ name, value }) => `${name}=${value}`).join(" ")}`;
    return [{ kind: "label", keyword: "LABEL", original, startLine, endLine, pairs, legacy: false }];
  }

  async #publish(result: StageResult): Promise<ImageRecord> {
    const { store, tags = [], signal } = this.#options;
    const diffIds = await Promise.all(
      result.layers.map(async (layer) =>
        layer.kind === "published" ? layer.record.diffId : (await layer.staged.done).diffId,
      ),
    );
    const config: ImageConfig = {
      ...platformConfig(result),
      ...(result.author === undefined ? {} : { author: result.author }),
      config: result.config,
      created: result.createdAt,
      history: result.history as readonly HistoryEntry[],
      rootfs: { type: "layers", diff_ids: diffIds },
    };
    const image = await store.publish({
      layers: this.#staged.map(({ staged }) => staged),
      image: { config: encodeConfig(config), chainId: await chainOf(result.top), tags },
      cache: await this.#cacheRows(),
      signal,
    });
    if (image === undefined) throw new LamellaError("internal", "PUBLISH", "publishing gave no image");
    return image;
  }

  async #cacheRows() {
    return Promise.all(
      this.#rows.map(async ({ key, top, createdAt }) => ({ key, chainId: await chainOf(top), createdAt })),
    );
  }

  /** After a failed step keeps what was done as cache; after a cancellation, or when that fails too, drops it. */
  async #giveUp(error: unknown): Promise<void> {
    this.#abort.abort();
    const exported = await Promise.allSettled(this.#staged.map(({ staged }) => staged.done));
    const isWhole = exported.every(({ status }) => status === "fulfilled");
    const { store } = this.#options;
    if (isWhole && this.#staged.length > 0 && !isLamellaError(error, "canceled")) {
      try {
        await store.publish({ layers: this.#staged.map(({ staged }) => staged), cache: await this.#cacheRows() });
        return;
      } catch (failure) {
        this.#warn(`finished steps are not kept: ${messageOf(failure)}`, undefined);
      }
    }
    const deepestFirst = this.#staged.map(({ staged }) => staged).sort((a, b) => b.depth - a.depth);
    for (const staged of deepestFirst) {
      try {
        await store.discardLayer(staged);
      } catch (failure) {
        this.#warn(`clean-up failed: ${messageOf(failure)}`, undefined);
      }
    }
  }

  #warn(message: string, line: number | undefined): void {
    this.#warnings.push(message);
    this.#emit({ kind: "warning", message, line });
  }

  #emit(event: BuildEvent): void {
    this.#options.onEvent?.(event);
  }
}

function readFiles(options: BuildOptions) {
  const { context, file, dockerfile } = options;
  if (context !== undefined) return readBuildFiles({ context, file, dockerfile });
  if (dockerfile !== undefined) return { dockerfile, fileName: "Dockerfile", ignore: "", ignoreName: ".dockerignore" };
  throw new LamellaError("invalid_argument", "NO_DOCKERFILE", "neither a context nor a Dockerfile was given");
}

function hostPlatform(): Platform {
  return platformOfNode(process.arch);
}

function platformConfig({ base, platform }: StageResult): Pick<ImageConfig, "architecture" | "os" | "variant"> {
  const { architecture, os, variant } = base === undefined ? platform : platformOfConfig(base);
  return { architecture, os, ...(variant === undefined ? {} : { variant }) };
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
