/**
 * A build as it goes on, on standard error. On a terminal: a line that stays for each finished step (its time, what its
 * layer holds) and changing lines for those in work; the output of a step is shown only while it runs, and when it fails.
 * Elsewhere: plain lines, the output included.
 */
import { StringDecoder } from "node:string_decoder";
import type { BuildEvent, BuildStep } from "../build/build-events.ts";
import type { ExportedLayer } from "../diff/export-layer.ts";
import { humanDuration } from "../lib/human-duration.ts";
import { humanSize } from "../lib/human-size.ts";
import { LiveLines } from "./live-lines.ts";
import { stderr } from "./output.ts";
import { stderrStyle } from "./style.ts";

export type ProgressMode = "tty" | "plain" | "none";

/** Lines of a failed step's output that are shown. */
const keptLines = 40;

interface StepState {
  readonly step: BuildStep;
  readonly startedAt: number;
  /** The last lines it wrote. */
  readonly lines: string[];
  partial: string;
  readonly decoder: StringDecoder;
  /** Set when the step is done and its layer is still being exported. */
  done?: { readonly durationMs: number };
}

/** What `build --json` tells of a step. */
export interface StepReport {
  readonly stage: string | number;
  readonly number: number;
  readonly total: number;
  readonly text: string;
  readonly line: number;
  outcome: "cached" | "metadata" | "done" | "failed";
  durationMs: number;
  layer: ExportedLayer | undefined;
}

export class BuildProgress implements Disposable {
  /** Every step so far, in the order they started. */
  readonly reports: StepReport[] = [];
  readonly warnings: string[] = [];
  readonly #states = new Map<number, StepState>();
  readonly #reportOf = new Map<number, StepReport>();
  readonly #mode: ProgressMode;
  readonly #lines: LiveLines;
  readonly #style = stderrStyle();

  constructor(mode: ProgressMode) {
    this.#mode = mode;
    this.#lines = new LiveLines(stderr, () => this.#render(), mode === "tty");
  }

  [Symbol.dispose](): void {
    this.#lines[Symbol.dispose]();
  }

  /** Takes one event in. */
  readonly on = (event: BuildEvent): void => {
    this.#note(event);
    if (this.#mode === "none") return;
    switch (event.kind) {
      case "step-started":
        this.#states.set(event.step.id, newState(event.step));
        if (this.#mode === "plain") this.#lines.print(this.#title(event.step));
        break;
      case "step-output":
        this.#output(event.step, event.chunk);
        break;
      case "step-done":
        this.#done(event);
        break;
      case "step-failed":
        this.#failed(event.step, event.durationMs);
        break;
      case "layer":
        this.#layer(event.step, event.layer);
        break;
      case "warning":
        this.#lines.print(
          `${this.#style.yellow("warning:")} ${event.line === undefined ? "" : `line ${event.line}: `}${event.message}`,
        );
        break;
      default:
        event satisfies never;
    }
  };

  /** The image is made. */
  finish(id: string, tags: readonly string[], durationMs: number): void {
    const names = tags.length > 0 ? ` as ${tags.join(", ")}` : "";
    this.print(`${this.#style.bold(`built ${id.slice(0, 19)}${names}`)} in ${humanDuration(durationMs)}`);
  }

  /** Prints a line that stays, unless nothing is to be shown. */
  print(line: string): void {
    if (this.#mode !== "none") this.#lines.print(line);
  }

  #note(event: BuildEvent): void {
    if (event.kind === "warning") {
      this.warnings.push(event.line === undefined ? event.message : `line ${event.line}: ${event.message}`);
      return;
    }
    const { step } = event;
    let report = this.#reportOf.get(step.id);
    if (report === undefined) {
      const { stage, stageName, number, total, text, line } = step;
      report = {
        stage: stageName ?? stage,
        number,
        total,
        text,
        line,
        outcome: "done",
        durationMs: 0,
        layer: undefined,
      };
      this.#reportOf.set(step.id, report);
      this.reports.push(report);
    }
    if (event.kind === "step-done") report.outcome = event.outcome;
    if (event.kind === "step-failed") report.outcome = "failed";
    if (event.kind === "step-done" || event.kind === "step-failed") report.durationMs = event.durationMs;
    if (event.kind === "layer") report.layer = event.layer;
  }

  #output(step: BuildStep, chunk: Uint8Array): void {
    const state = this.#states.get(step.id);
    if (state === undefined) return;
    const lines = (
      state.partial + state.decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    ).split("\n");
    state.partial = lines.pop() ?? "";
    for (const line of lines) this.#outputLine(state, line);
  }

  #outputLine(state: StepState, line: string): void {
    // What overwrote itself is shown in its last state. On a terminal a step must not move our cursor.
    const last = line.slice(line.lastIndexOf("\r", line.length - 2) + 1).trimEnd();
    const shown = this.#mode === "tty" ? last.replace(/\x1b\[[0-9;?]*[A-Za-z]|[\0-\x08\x0b-\x1f\x7f]/g, "") : last;
    state.lines.push(shown);
    if (state.lines.length > keptLines) state.lines.shift();
    if (this.#mode === "plain") this.#lines.print(`${this.#number(state.step)}   ${shown}`);
  }

  #done({ step, outcome, durationMs, layer }: Extract<BuildEvent, { kind: "step-done" }>): void {
    const state = this.#states.get(step.id);
    if (state !== undefined && state.partial !== "") this.#outputLine(state, state.partial);
    if (state !== undefined && layer && outcome === "done" && this.#reportOf.get(step.id)?.layer === undefined) {
      state.partial = "";
      state.done = { durationMs };
      if (this.#mode === "plain") this.#lines.print(`${this.#number(step)}   done in ${humanDuration(durationMs)}`);
      return;
    }
    this.#states.delete(step.id);
    const how =
      outcome === "cached"
        ? this.#style.cyan("cached")
        : outcome === "metadata"
          ? this.#style.dim("config only")
          : `${humanDuration(durationMs)}${layer ? "" : this.#style.dim("  no change")}`;
    if (this.#mode === "plain") this.#lines.print(`${this.#number(step)}   ${how}`);
    else this.#lines.print(`${this.#style.green("✓")} ${this.#title(step)}  ${how}`);
  }

  #layer(step: BuildStep, layer: ExportedLayer): void {
    const state = this.#states.get(step.id);
    this.#states.delete(step.id);
    const holds = describeLayer(layer);
    const diff = `diff ${humanDuration(layer.durationMs)}`;
    if (this.#mode === "plain") this.#lines.print(`${this.#number(step)}   layer: ${holds}, ${diff}`);
    else {
      const time = state?.done === undefined ? "" : `  ${humanDuration(state.done.durationMs)}`;
      this.#lines.print(
        `${this.#style.green("✓")} ${this.#title(step)}${time}  ${this.#style.dim(`layer: ${holds}, ${diff}`)}`,
      );
    }
  }

  #failed(step: BuildStep, durationMs: number): void {
    const state = this.#states.get(step.id);
    this.#states.delete(step.id);
    if (state !== undefined && state.partial !== "") this.#outputLine(state, state.partial);
    if (this.#mode === "plain") this.#lines.print(`${this.#number(step)}   failed after ${humanDuration(durationMs)}`);
    else {
      this.#lines.print(`${this.#style.red("✗")} ${this.#title(step)}  failed after ${humanDuration(durationMs)}`);
      for (const line of state?.lines ?? []) this.#lines.print(`  ${line}`);
    }
  }

  #render(): string[] {
    const now = performance.now();
    return [...this.#states.values()].flatMap(({ step, startedAt, lines, partial, done }) => {
      if (done !== undefined) return [`  ${this.#title(step)}  ${humanDuration(done.durationMs)}  exporting its layer`];
      const last = partial.trim() || lines.at(-1);
      const title = `${this.#style.cyan("•")} ${this.#title(step)}  ${humanDuration(now - startedAt)}`;
      return last ? [title, this.#style.dim(`    ${last}`)] : [title];
    });
  }

  #title(step: BuildStep): string {
    const room = this.#mode === "tty" ? Math.max(24, Math.min(64, stderr.columns - 60)) : 4096;
    const line = step.text.replace(/\s+/g, " ");
    const text = line.length > room ? `${line.slice(0, room - 1)}…` : line;
    return `${this.#style.bold(this.#number(step))} ${text}`;
  }

  #number({ stage, stageName, number, total }: BuildStep): string {
    const several = stageName ?? (stage > 0 ? String(stage) : undefined);
    return `[${several === undefined ? "" : `${several} `}${number}/${total}]`;
  }
}

function newState(step: BuildStep): StepState {
  return { step, startedAt: performance.now(), lines: [], partial: "", decoder: new StringDecoder("utf8") };
}

/** `301 added, 1 deleted, 1.2MB`. */
export function describeLayer({ added, modified, deleted, opaque, tarSizeBytes }: ExportedLayer): string {
  const counts: [number, string][] = [
    [added, "added"],
    [modified, "changed"],
    [deleted, "deleted"],
    [opaque, "replaced"],
  ];
  const parts = counts.filter(([count]) => count > 0).map(([count, word]) => `${count} ${word}`);
  return [...parts, humanSize(tarSizeBytes)].join(", ");
}
