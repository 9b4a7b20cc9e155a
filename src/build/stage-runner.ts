/**
 * Carries out one stage: its instructions in order, each on top of what the one before left.
 *
 * Cache: a step's key is the digest of the key before it and of what the step depends on (instruction with expanded words,
 * arguments a RUN sees, content of a COPY's sources). As long as every step of the stage was found, the next is looked up;
 * a row counts only when its layer stands on ours. After a miss the rest is carried out.
 *
 * Pipelining: a finished layer is sealed, which starts its export, and is the next step's parent at once. A step that
 * changed nothing (an overlay's upper is empty) gives no layer, as with Docker.
 */
import { createHash } from "node:crypto";
import {
  DockerfileError,
  expandInstruction,
  type Instruction,
  parseInstruction,
  type Stage,
} from "../dockerfile/index.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { configTime, type HistoryEntry } from "../oci/config.ts";
import { type Platform, platformOfConfig } from "../oci/index.ts";
import type { StagedLayer } from "../store/requests.ts";
import type { StageArgs } from "./build-args.ts";
import { BuildError } from "./build-error.ts";
import type { BuildStep, StepOutcome } from "./build-events.ts";
import {
  type BaseImage,
  type BuildSession,
  type LayerStep,
  parentOf,
  type StageContext,
  type StageLayer,
  type StageResult,
} from "./build-session.ts";
import { copyStep } from "./copy-step.ts";
import { runStep } from "./run-step.ts";
import {
  applyMetadata,
  environmentLookup,
  nopHistory,
  type StageConfig,
  stageConfigOf,
  workdirOf,
} from "./stage-config.ts";

export interface StageBase {
  readonly stage: Stage;
  readonly args: StageArgs;
  /** FROM's image after expansion: an earlier stage, an image, or undefined for scratch. */
  readonly from:
    | { readonly kind: "stage"; readonly result: StageResult }
    | { readonly kind: "image"; readonly image: BaseImage }
    | undefined;
  readonly platform: Platform;
  /** Instructions added at the end: those of --label. */
  readonly extra: readonly Instruction[];
}

export class StageRunner implements StageContext {
  readonly session: BuildSession;
  readonly stage: Stage;
  readonly args: StageArgs;
  state: StageConfig;
  #top: StageLayer | undefined;
  readonly #layers: StageLayer[];
  readonly #history: HistoryEntry[];
  readonly #base: StageBase;
  #key: string;
  #cacheable: boolean;
  #createdAt: string;
  #number = 1;
  readonly #total: number;
  readonly #instructions: readonly { readonly instruction: Instruction; readonly line: number }[];

  constructor(session: BuildSession, base: StageBase) {
    this.session = session;
    this.stage = base.stage;
    this.args = base.args;
    this.#base = base;
    this.#cacheable = !session.noCache;
    const { from } = base;
    const own = [...base.stage.instructions, ...base.extra].map((instruction) => ({
      instruction,
      line: instruction.startLine,
    }));
    if (from?.kind === "stage") {
      const { result } = from;
      this.state = { ...stageConfigOf(result.config, result.author) };
      this.#top = result.top;
      this.#layers = [...result.layers];
      this.#history = [...result.history];
      this.#key = result.key;
      this.#createdAt = result.createdAt;
      this.#instructions = [...this.#triggers(result.config.OnBuild), ...own];
    } else if (from?.kind === "image") {
      const { config, layers, record } = from.image;
      this.state = stageConfigOf(config.config, config.author);
      this.#layers = layers.map((layer) => ({ kind: "published", record: layer }));
      this.#top = this.#layers.at(-1);
      this.#history = [...(config.history ?? [])];
      this.#key = record.id;
      this.#createdAt = config.created ?? now(session);
      this.#instructions = [...this.#triggers(config.config?.OnBuild), ...own];
    } else {
      this.state = stageConfigOf(undefined, undefined);
      this.#layers = [];
      this.#history = [];
      this.#key = "scratch";
      this.#createdAt = now(session);
      this.#instructions = own;
    }
    this.#total = this.#instructions.length + 1;
  }

  get top(): StageLayer | undefined {
    return this.#top;
  }

  async run(): Promise<StageResult> {
    const from = this.#step(this.stage.from.original, this.stage.from.startLine);
    this.session.emit({ kind: "step-started", step: from });
    this.session.emit({ kind: "step-done", step: from, outcome: "metadata", durationMs: 0, layer: false });
    for (const { instruction, line } of this.#instructions) await this.#instruction(instruction, line);
    const base = this.#base.from;
    const config = base?.kind === "image" ? base.image.config : base?.result.base;
    return {
      top: this.#top,
      layers: this.#layers,
      config: this.state.config,
      author: this.state.author,
      history: this.#history,
      base: config,
      platform: config === undefined ? this.#base.platform : platformOfConfig(config),
      key: this.#key,
      createdAt: this.#createdAt,
    };
  }

  /** A variable as the stage's instructions see it: ENV before ARG. */
  lookup(name: string): string | undefined {
    return environmentLookup(this.state.config, name) ?? this.args.lookup(name);
  }

  async #instruction(written: Instruction, line: number): Promise<void> {
    const { session } = this;
    throwIfAborted(session.signal);
    const step = this.#step(written.original, line);
    const start = performance.now();
    session.emit({ kind: "step-started", step });
    try {
      const { outcome, layer } = await this.#carryOut(written, step);
      session.emit({ kind: "step-done", step, outcome, layer, durationMs: performance.now() - start });
    } catch (error) {
      const failure = this.#located(error, step);
      session.emit({ kind: "step-failed", step, durationMs: performance.now() - start, message: failure.message });
      throw failure;
    }
  }

  async #carryOut(
    written: Instruction,
    step: BuildStep,
  ): Promise<{ readonly outcome: StepOutcome; readonly layer: boolean }> {
    const { session } = this;
    const instruction = expandInstruction(written, (name) => this.lookup(name), {
      escape: session.escape,
      fileName: session.fileName,
    });
    switch (instruction.kind) {
      case "run":
        return this.#layerStep(step, runStep(this, instruction));
      case "copy":
      case "add":
        return this.#layerStep(step, await copyStep(this, instruction));
      case "workdir": {
        const path = workdirOf(this.state.config, instruction.path);
        const next = { ...this.state, config: { ...this.state.config, WorkingDir: path } };
        return this.#layerStep(step, {
          payload: async () => ["workdir", path],
          createdBy: () => nopHistory(next.config, `WORKDIR ${path}`),
          execute: (view) =>
            session.threads.makeDirectory({ kind: "directory", view, path: bytesOfText(path) }, session.signal),
          next,
        });
      }
      default: {
        if (instruction.kind === "arg") this.args.declare(instruction);
        const { next, comment } = applyMetadata(this.state, instruction);
        this.#extendKey(["metadata", comment, next.config.Shell ?? null]);
        const row = this.#cacheable ? session.store.cacheGet(this.#key) : undefined;
        this.state = next;
        this.#record(nopHistory(next.config, comment), row?.createdAt, true);
        return { outcome: "metadata", layer: false };
      }
    }
  }

  async #layerStep(
    step: BuildStep,
    layerStep: LayerStep,
  ): Promise<{ readonly outcome: StepOutcome; readonly layer: boolean }> {
    const { session } = this;
    const { sourceDateEpoch } = session;
    // Without a look-up the payload (it may hash many files) is made while the step runs.
    const payload = layerStep.payload();
    payload.catch(() => {});
    const looksUp = this.#cacheable;
    if (looksUp) {
      this.#extendKey([await payload, sourceDateEpoch ?? null]);
      const hit = this.#lookUp();
      if (hit !== undefined) {
        this.state = layerStep.next;
        if (hit.layer !== undefined) this.#push(hit.layer);
        this.#record(layerStep.createdBy(), hit.createdAt, hit.layer === undefined);
        return { outcome: "cached", layer: hit.layer !== undefined };
      }
      this.#cacheable = false;
    }
    const staged = await this.#write(step, layerStep);
    if (!looksUp) this.#extendKey([await payload, sourceDateEpoch ?? null]);
    this.state = layerStep.next;
    if (staged !== undefined) this.#push({ kind: "staged", staged });
    this.#record(layerStep.createdBy(), undefined, staged === undefined);
    return { outcome: "done", layer: staged !== undefined };
  }

  /** What the cache has for the present key, if it stands on what the stage is now. */
  #lookUp(): { readonly layer: StageLayer | undefined; readonly createdAt: string | undefined } | undefined {
    const { store } = this.session;
    if (this.#top?.kind === "staged") return undefined;
    const row = store.cacheGet(this.#key);
    if (row === undefined) return undefined;
    const chainId = this.#top?.record.chainId;
    if (row.chainId === chainId) return { layer: undefined, createdAt: row.createdAt };
    const record = row.chainId === undefined ? undefined : store.layer(row.chainId);
    if (record === undefined || record.parent !== chainId) return undefined;
    this.session.hold(record.chainId);
    return { layer: { kind: "published", record }, createdAt: row.createdAt };
  }

  /** Carries the step out in a new layer; undefined when it changed nothing. */
  async #write(step: BuildStep, layerStep: LayerStep): Promise<StagedLayer | undefined> {
    const { session } = this;
    const { store, signal } = session;
    const active = await store.beginLayer(parentOf(this.#top));
    let unchanged: boolean | undefined;
    try {
      await using view = await store.driver.view(active.layerId);
      unchanged = await layerStep.execute(view.value, step);
      throwIfAborted(signal);
    } catch (error) {
      await store.discardLayer(active);
      throw error;
    }
    if (unchanged === true) {
      session.inBackground(store.discardLayer(active));
      return undefined;
    }
    const staged = store.sealLayer(active, { clampMtimeSec: session.sourceDateEpoch, signal });
    if (unchanged === undefined && (await isEmpty(staged))) {
      session.inBackground(store.discardLayer(staged));
      return undefined;
    }
    session.addLayer(step, staged);
    return staged;
  }

  #push(layer: StageLayer): void {
    this.#layers.push(layer);
    this.#top = layer;
  }

  #record(createdBy: string, createdAt: string | undefined, isEmptyLayer: boolean): void {
    const { session } = this;
    const { author } = this.state;
    const created = session.sourceDateEpoch === undefined ? (createdAt ?? now(session)) : now(session);
    this.#createdAt = created;
    this.#history.push({
      created,
      ...(author === undefined ? {} : { author }),
      created_by: createdBy,
      ...(isEmptyLayer ? { empty_layer: true } : {}),
    });
    session.addCacheRow({ key: this.#key, top: this.#top, createdAt: created });
  }

  #extendKey(part: unknown): void {
    this.#key = createHash("sha256")
      .update(JSON.stringify([this.#key, part]))
      .digest("hex");
  }

  #step(text: string, line: number): BuildStep {
    const { index, name } = this.stage;
    const number = this.#number++;
    return { id: this.session.nextStepId(), stage: index, stageName: name, number, total: this.#total, text, line };
  }

  #triggers(texts: readonly string[] | undefined): { readonly instruction: Instruction; readonly line: number }[] {
    return (texts ?? []).map((text) => ({
      instruction: parseInstruction(text, { fileName: `ONBUILD of ${this.stage.base}` }),
      line: this.stage.from.startLine,
    }));
  }

  #located(error: unknown, step: BuildStep): LamellaError {
    if (error instanceof BuildError || error instanceof DockerfileError) return error;
    const { fileName } = this.session;
    const details = { fileName, line: step.line, text: step.text };
    if (!(error instanceof LamellaError)) {
      const message = error instanceof Error ? error.message : String(error);
      return new BuildError("internal", "UNEXPECTED", message, details, { cause: error });
    }
    if (error.kind === "canceled") return error;
    return new BuildError(error.kind, error.code, error.message, details, { hint: error.hint, cause: error });
  }
}

async function isEmpty(staged: StagedLayer): Promise<boolean> {
  const { exported } = await staged.done;
  if (exported === undefined) return false;
  return exported.added + exported.modified + exported.deleted + exported.opaque === 0;
}

function now(session: BuildSession): string {
  const { sourceDateEpoch } = session;
  return configTime(sourceDateEpoch === undefined ? new Date() : new Date(sourceDateEpoch * 1000));
}
