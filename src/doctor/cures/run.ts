/**
 * Carries a plan out, undoes it, ends it. A plan that fails in the middle is undone at once; one that is killed is undone by
 * `undoCure`, whenever that comes; so is an undo that was killed.
 */
import { LamellaError, throwIfAborted } from "../../errors/lamella-error.ts";
import type { CureHost } from "./cure-host.ts";
import type { Plan } from "./plan.ts";
import { type CureEvent, CureState, lockCures } from "./state.ts";
import type { Step, StepContext } from "./steps/step.ts";
import { kindOf } from "./steps/step-kinds.ts";

export interface RunOptions {
  /** Directory for everything that undo needs. */
  readonly state: string;
  readonly host: CureHost;
  readonly signal?: AbortSignal | undefined;
  /** Told of every event, when it has been written down. */
  readonly onEvent?: ((event: CureEvent, plan: Plan) => void) | undefined;
  /** Told what a step found or did. */
  readonly say?: ((message: string) => void) | undefined;
}

/**
 * Carries out a plan. Errors: what a step failed with, when all has been undone (its message says so); CURE_EXISTS,
 * CURE_LOCKED before anything is done.
 */
export async function applyPlan(plan: Plan, options: RunOptions): Promise<void> {
  using _lock = lockCures(options.state);
  const state = CureState.create(options.state, plan);
  try {
    for (const [index, step] of plan.steps.entries()) {
      throwIfAborted(options.signal);
      note(state, options, { event: "intended", step: index });
      await kindOf(step).apply(step, contextOf(state, index, options));
      note(state, options, { event: "done", step: index });
    }
  } catch (error) {
    throw await undoneAfter(error, state, options);
  }
  note(state, options, { event: "cured" });
}

/** Puts all back, and answers the error to throw. */
async function undoneAfter(error: unknown, state: CureState, options: RunOptions): Promise<unknown> {
  const why = error instanceof Error ? error.message : String(error);
  const { id } = state.plan;
  try {
    await undoSteps(state, { ...options, signal: undefined });
  } catch (another) {
    const then = another instanceof Error ? another.message : String(another);
    return new LamellaError("failed_precondition", "CURE_STUCK", `${why}; and putting all back failed: ${then}`, {
      hint: `put that right, then run \`lamella doctor --undo ${id}\``,
      cause: error,
    });
  }
  const known = error instanceof LamellaError ? error : undefined;
  return new LamellaError(
    known?.kind ?? "internal",
    known?.code ?? "UNEXPECTED",
    `${why}; what had been done was undone`,
    { hint: known?.hint, cause: error },
  );
}

/** What undoing a cure kept, for `finish` to remove. */
export interface Undone {
  readonly plan: Plan;
  readonly kept: readonly string[];
}

/** Undoes a cure, also one that was killed. Errors: not_found (NO_CURE); what stands in the way of a step. */
export async function undoCure(id: string, options: RunOptions): Promise<Undone> {
  using _lock = lockCures(options.state);
  const state = requireCure(id, options.state);
  if (state.stage === "finishing")
    throw new LamellaError("failed_precondition", "CURE_FINISHED", `what undoing ${id} needs is being removed`, {
      hint: `\`lamella doctor --finish ${id}\` removes the rest`,
    });
  for (const index of state.toUndo) {
    const step = state.plan.steps[index] as Step;
    await kindOf(step).checkUndo?.(step, contextOf(state, index, options));
  }
  await undoSteps(state, { ...options, signal: undefined });
  return { plan: state.plan, kept: state.kept };
}

async function undoSteps(state: CureState, options: RunOptions): Promise<void> {
  for (const index of state.toUndo) {
    const step = state.plan.steps[index] as Step;
    note(state, options, { event: "undoing", step: index });
    const kept = await kindOf(step).undo(step, contextOf(state, index, options));
    note(state, options, { event: "undone", step: index, ...(kept !== undefined && { kept }) });
  }
  if (state.kept.length === 0) {
    options.onEvent?.({ event: "all undone" }, state.plan);
    state.remove();
  } else note(state, options, { event: "all undone" });
}

/** What is left to do by hand. */
export interface Finished {
  readonly plan: Plan;
  readonly byHand: readonly string[];
}

/**
 * Removes what was kept for the undo; after that there is none. Errors: not_found (NO_CURE); failed_precondition
 * (CURE_INCOMPLETE) for a cure that was killed.
 */
export async function finishCure(id: string, options: RunOptions): Promise<Finished> {
  using _lock = lockCures(options.state);
  const state = requireCure(id, options.state);
  const { plan, stage } = state;
  if (stage === "begun" || stage === "undoing")
    throw new LamellaError("failed_precondition", "CURE_INCOMPLETE", `the cure of ${id} was stopped in the middle`, {
      hint: `\`lamella doctor --undo ${id}\` puts all back`,
    });
  const isUndone = state.events.some(({ event }) => event === "all undone");
  note(state, options, { event: "finishing" });
  const byHand: string[] = [];
  // The last first, as for undo: a mount goes before what is mounted.
  for (const [index, step] of [...plan.steps.entries()].reverse()) {
    const left = await kindOf(step).finish?.(step, contextOf(state, index, options), { isUndone });
    if (left !== undefined) byHand.push(left);
  }
  state.remove();
  return { plan, byHand };
}

function requireCure(id: string, stateDirectory: string): CureState {
  const state = CureState.open(stateDirectory, id);
  if (state !== undefined) return state;
  throw new LamellaError("not_found", "NO_CURE", `there is no cure of ${id} in ${stateDirectory}`, {
    hint: "`--state` names another directory; what was finished cannot be undone",
  });
}

function contextOf(state: CureState, index: number, options: RunOptions): StepContext {
  return {
    host: options.host,
    directory: state.directory,
    index,
    engineRan: state.engineRanAfter(index),
    wasDone: state.events.some((one) => one.event === "done" && one.step === index),
    signal: options.signal,
    say: options.say ?? (() => {}),
  };
}

function note(state: CureState, options: RunOptions, event: CureEvent): void {
  state.append(event);
  options.onEvent?.(event, state.plan);
}
