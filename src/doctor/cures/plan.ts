/**
 * Cures. A cure is a **plan** first: a list of steps that are plain data, made from the facts of a diagnosis by a planner
 * (./overlay-options.ts and its neighbours; ./planners.ts says which is for what finding). Planners look, and change nothing,
 * so a plan can be shown, compared in a test, and thrown away.
 *
 * A step (./steps) knows three ways: `apply`, `undo`, and, where something is kept for the undo, `finish`. All three are
 * idempotent, and `undo` also mends what a killed `apply` left half done. ./run.ts walks the steps and writes each into a
 * journal (./state.ts) before and after: whatever stops a cure in the middle, `undo` knows how far it may have come.
 *
 * Nothing goes for good before `finish`: files are backed up, directories are renamed, data that an engine has worked on
 * since is kept even by `undo`. And nothing of an engine's data is touched while it runs (./engine-guard.ts), which every step
 * asks again for itself.
 */
import type { Evidence, FindingId } from "../findings/finding.ts";
import type { Step } from "./steps/step.ts";

/** What a cure would do; `--json` prints it, docs/doctor.md describes it. */
export interface Plan {
  readonly schema: 1;
  /** The finding that it cures. */
  readonly id: FindingId;
  /** Which engine or what of the host. */
  readonly subject: string;
  /** What it comes to, in a sentence. */
  readonly summary: string;
  readonly steps: readonly Step[];
  /** What to know before one says yes. */
  readonly notes: readonly string[];
  /** What is left to do by hand, as doctor cannot do it or must not. */
  readonly byHand: readonly string[];
  /** How long the engine does not answer; undefined when it is not stopped. */
  readonly downtime?: Downtime;
  /** What is copied; undefined when nothing is. */
  readonly copies?: { readonly bytes: number; readonly seconds: number };
  /** What the host said before. */
  readonly before: readonly Evidence[];
}

export interface Downtime {
  /** An estimate. */
  readonly seconds: number;
  /** Engines stopped. */
  readonly engines: readonly string[];
  /** Containers that run now, and stop. */
  readonly containers: readonly string[];
}

/** What a planner needs beside the facts. */
export interface CureChoices {
  /** Size of the volume or image file for `naive-diff-driver` on ZFS, in bytes. */
  readonly volumeBytes?: number | undefined;
  /** Use a file with ext4 in it also where ZFS volumes are to be had. */
  readonly imageFile?: boolean | undefined;
  /** Leave layers with redirects as they are, and have the kernel go on following them. */
  readonly keepLayers?: boolean | undefined;
  /** Mount by a unit of systemd instead of a line in /etc/fstab. */
  readonly mountUnit?: boolean | undefined;
}
