/**
 * What is known of a cure on disk, so that it can be undone whatever happened:
 *
 *     <state>/lock                 held by whoever works on any of them
 *     <state>/<finding id>/plan.json   the whole plan, written before anything is done
 *     <state>/<finding id>/journal     a line of JSON an event, durable before what it announces begins
 *     <state>/<finding id>/backup-<n>  the file that step n changed, as it was
 *     <state>/dockerd.log          output of a daemon started here that had no file for it before
 *
 * Directories are 0700: a daemon's environment is part of the plan, and may hold secrets. An id's directory is there from the
 * first step until `finish`, or until `undo` has put all back.
 */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
} from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { syncDirectory, writeDurably } from "../../fs/durable-file.ts";
import { tryLockFile } from "../../fs/locks.ts";
import { makeDirectories } from "../../fs/make-directories.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import { type FindingId, findingIds } from "../findings/finding.ts";
import type { Plan } from "./plan.ts";

/** Something that happened to a cure. `step` is a place in the plan. */
export type CureEvent =
  | { readonly event: "intended" | "done" | "undoing"; readonly step: number }
  | { readonly event: "undone"; readonly step: number; readonly kept?: string }
  | { readonly event: "cured" | "all undone" | "finishing" };

/** `begun`: a run ended in the middle; `undone`: what an engine worked on is still kept. */
export type CureStage = "begun" | "cured" | "undoing" | "undone" | "finishing";

export class CureState {
  readonly directory: string;
  readonly plan: Plan;
  readonly #events: CureEvent[];
  /** Of the journal's whole lines. */
  #journalBytes: number;

  private constructor(directory: string, plan: Plan, journal = "") {
    this.directory = directory;
    this.plan = plan;
    // A line without its end was being written when the power went: what it announces was not begun.
    const whole = journal.slice(0, journal.lastIndexOf("\n") + 1);
    this.#journalBytes = Buffer.byteLength(whole);
    this.#events = whole
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as CureEvent);
  }

  /** Writes a plan down. Errors: failed_precondition (CURE_EXISTS) when there is one of that id. */
  static create(stateDirectory: string, plan: Plan): CureState {
    const directory = `${stateDirectory}/${plan.id}`;
    // Killed while it wrote the plan down: nothing had been done.
    if (existsSync(directory) && !existsSync(`${directory}/plan.json`)) rmSync(directory, { recursive: true });
    if (existsSync(directory)) throw exists(stateDirectory, plan.id);
    mkdirSync(directory, { mode: 0o700 });
    syncDirectory(bytesOfText(stateDirectory));
    const text = Buffer.from(`${JSON.stringify(plan, undefined, 2)}\n`);
    writeDurably(bytesOfText(`${directory}/plan.json`), text, { mode: 0o600 });
    return new CureState(directory, plan);
  }

  /** Undefined when there is no cure of that id. */
  static open(stateDirectory: string, id: string): CureState | undefined {
    const directory = `${stateDirectory}/${id}`;
    if (!existsSync(`${directory}/plan.json`)) return undefined;
    const plan = JSON.parse(readFileSync(`${directory}/plan.json`, "utf8")) as Plan;
    const journal = existsSync(`${directory}/journal`) ? readFileSync(`${directory}/journal`, "utf8") : "";
    return new CureState(directory, plan, journal);
  }

  get events(): readonly CureEvent[] {
    return this.#events;
  }

  get stage(): CureStage {
    const last = this.#events.findLast(({ event }) => event !== "intended" && event !== "done");
    if (last === undefined) return "begun";
    if (last.event === "undoing" || last.event === "undone") return "undoing";
    if (last.event === "all undone") return "undone";
    return last.event === "finishing" ? "finishing" : "cured";
  }

  /** Durable when it returns; what a power cut has left of a line goes first. For who holds the lock. */
  append(event: CureEvent): void {
    const path = `${this.directory}/journal`;
    const isNew = !existsSync(path);
    if (!isNew && statSync(path).size > this.#journalBytes) truncateSync(path, this.#journalBytes);
    const line = `${JSON.stringify(event)}\n`;
    appendFileSync(path, line, { mode: 0o600, flush: true });
    this.#journalBytes += Buffer.byteLength(line);
    if (isNew) syncDirectory(bytesOfText(this.directory));
    this.#events.push(event);
  }

  /** Places of steps that may have had an effect and have not been undone, the last first. */
  get toUndo(): number[] {
    const places = new Set<number>();
    for (const one of this.#events) {
      if (one.event === "intended") places.add(one.step);
      if (one.event === "undone") places.delete(one.step);
    }
    return [...places].sort((a, b) => b - a);
  }

  /** True when an engine may have been started after a step. */
  engineRanAfter(step: number): boolean {
    return this.#events.some(
      (one) => one.event === "intended" && one.step > step && this.plan.steps[one.step]?.kind === "start-engine",
    );
  }

  /** What undone steps have kept. */
  get kept(): string[] {
    return this.#events.flatMap((one) => (one.event === "undone" && one.kept !== undefined ? [one.kept] : []));
  }

  remove(): void {
    // The plan last: without it the rest is nothing.
    for (const name of readdirSync(this.directory)) if (name !== "plan.json") rmSync(`${this.directory}/${name}`);
    rmSync(this.directory, { recursive: true });
  }
}

/** The cures on a host that are not over. */
export function openCures(stateDirectory: string): { readonly id: FindingId; readonly stage: CureStage }[] {
  return findingIds.flatMap((id) => {
    const state = CureState.open(stateDirectory, id);
    return state === undefined ? [] : [{ id, stage: state.stage }];
  });
}

/** One at a time works on cures. Errors: failed_precondition (CURE_LOCKED). */
export function lockCures(stateDirectory: string): Disposable {
  makeDirectories(stateDirectory, 0o700);
  const lock = tryLockFile(bytesOfText(`${stateDirectory}/lock`), "exclusive");
  if (lock !== undefined) return lock;
  throw new LamellaError(
    "failed_precondition",
    "CURE_LOCKED",
    `another process works on the cures in ${stateDirectory}`,
    {
      hint: "wait for it",
    },
  );
}

function exists(stateDirectory: string, id: string): LamellaError {
  const stage = CureState.open(stateDirectory, id)?.stage;
  const hints = {
    begun: `it was stopped in the middle: \`lamella doctor --undo ${id}\` puts all back, then fix again`,
    undoing: `undoing it was stopped in the middle: go on with \`lamella doctor --undo ${id}\``,
    cured: `\`lamella doctor --finish ${id}\` ends it, \`--undo ${id}\` puts all back`,
    undone: `\`lamella doctor --finish ${id}\` removes what was kept of it`,
    finishing: `\`lamella doctor --finish ${id}\` ends it`,
  };
  return new LamellaError("failed_precondition", "CURE_EXISTS", `there is a cure of ${id} already`, {
    hint: hints[stage ?? "begun"],
  });
}
