/** What a build tells while it runs. Plain data, in the order things happen; steps of parallel stages interleave. */
import type { ExportedLayer } from "../diff/export-layer.ts";

/** One instruction of one stage, as it is carried out. */
export interface BuildStep {
  /** Unique in the build, from 0. */
  readonly id: number;
  readonly stage: number;
  readonly stageName: string | undefined;
  /** From 1, within the stage; FROM is 1. */
  readonly number: number;
  /** Steps of the stage, as far as known when it started: triggers of the base included. */
  readonly total: number;
  /** The instruction on one line, variables as written. */
  readonly text: string;
  /** First line in the Dockerfile; that of FROM for a trigger of the base image. */
  readonly line: number;
}

/** `cached`: the result was known; `metadata`: only the config changed; `done`: it was carried out. */
export type StepOutcome = "cached" | "metadata" | "done";

export type BuildEvent =
  | { readonly kind: "step-started"; readonly step: BuildStep }
  | {
      readonly kind: "step-output";
      readonly step: BuildStep;
      readonly stream: "stdout" | "stderr";
      readonly chunk: Uint8Array;
    }
  | {
      readonly kind: "step-done";
      readonly step: BuildStep;
      readonly outcome: StepOutcome;
      readonly durationMs: number;
      /** Whether the step gave a layer. */
      readonly layer: boolean;
    }
  | { readonly kind: "step-failed"; readonly step: BuildStep; readonly durationMs: number; readonly message: string }
  /** The layer of a step has been exported, some time after the step. */
  | { readonly kind: "layer"; readonly step: BuildStep; readonly layer: ExportedLayer }
  | { readonly kind: "warning"; readonly message: string; readonly line: number | undefined };
