/** What cures are made of. Steps are JSON: they are written to disk before the first of them runs. Paths are the host's. */

import type { CureHost } from "../cure-host.ts";
import type { EngineHandle } from "../engine.ts";

/** Writes a small file, or removes it. Undo puts the old one back with owner, mode, attributes and time. */
export interface WriteFileStep {
  readonly kind: "write-file";
  readonly path: string;
  /** Undefined: there is none. */
  readonly before?: string;
  /** Undefined: there is to be none. */
  readonly after?: string;
  /** Directories above it that are not there, the uppermost first. */
  readonly madeDirectories: readonly string[];
}

/** Sets the overlay module's running parameters, by loading it anew where nothing uses it. */
export interface SetParametersStep {
  readonly kind: "set-parameters";
  readonly before: Readonly<Record<string, string>>;
  readonly after: Readonly<Record<string, string>>;
  /** Overlayfs is a module, and its options are configured: loading it anew does it, too. */
  readonly reload: boolean;
}

export interface StopEngineStep {
  readonly kind: "stop-engine";
  readonly engine: EngineHandle;
}

export interface StartEngineStep {
  readonly kind: "start-engine";
  readonly engine: EngineHandle;
}

/** Asks the engine whether the cure did what it is for. */
export interface VerifyEngineStep {
  readonly kind: "verify-engine";
  readonly socket: string;
  /** Storage driver that must be in use. */
  readonly driver?: string;
  /** Lines of `docker info` that must be there. */
  readonly status: readonly (readonly [string, string])[];
  /** IDs of images that must be there. */
  readonly images: readonly string[];
}

/** Runs a program. */
export interface CommandStep {
  readonly kind: "command";
  readonly argv: readonly string[];
  /** A path that is there once it has run. */
  readonly makes?: string;
  /** What undoes it. */
  readonly undo?: readonly string[];
  /** Asks whether there is anything to undo: only when the program prints this line. That it fails is no answer. */
  readonly undoIf?: { readonly argv: readonly string[]; readonly prints: string };
  /** What it makes holds data: once an engine has worked on that, `finish` runs `undo`, and undo does not. */
  readonly holdsData: boolean;
  /** What `finish` runs, once the cure is there to stay. */
  readonly finish?: readonly string[];
  /** What is then left to do by hand. */
  readonly afterFinish?: string;
}

/** Makes an empty directory, where there is none. */
export interface MakeDirectoryStep {
  readonly kind: "make-directory";
  readonly path: string;
  /** Of use for the cure alone: `finish` removes it. */
  readonly temporary: boolean;
  /** Octal, as `0710`. */
  readonly mode: string;
}

/** Mounts a file system. */
export interface MountStep {
  readonly kind: "mount";
  /** A block device, or a file with a file system in it. */
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly options: string;
}

/** Unmounts what the mount step before mounted elsewhere meanwhile. */
export interface UnmountStep extends Omit<MountStep, "kind"> {
  readonly kind: "unmount";
}

/** Renames things of a data root within their file system; `finish` removes them. */
export interface SetAsideStep {
  readonly kind: "set-aside";
  /** Docker's data root, which no engine may be running on. */
  readonly root: string;
  /** Directory, made for it, that gets them. Empty: each has a new name of its own. */
  readonly into?: string;
  readonly moves: readonly { readonly from: string; readonly to: string }[];
  /** Whether `finish` removes them; else they stay where they are. */
  readonly remove: boolean;
}

/** Copies a data root but for some names, and compares. */
export interface CopyDataStep {
  readonly kind: "copy-data";
  readonly root: string;
  readonly from: string;
  readonly to: string;
  /** Names directly below `from` that are left out. */
  readonly without: readonly string[];
}

/** Brings the images of one driver's directories into those of another. */
export interface MoveImagesStep {
  readonly kind: "move-images";
  readonly root: string;
  readonly driver: string;
  readonly toRoot: string;
  readonly toDriver: string;
  /** Of the engine, where it is known: `finish` removes the old driver's directories, unless they are in use again. */
  readonly socket?: string;
  /** `finish` removes the old driver's directories; else they go with what they lie in. */
  readonly removeOld: boolean;
}

/** Owns the directories of a driver that has none yet. */
export interface NewDriverStep {
  readonly kind: "new-driver";
  readonly root: string;
  readonly driver: string;
}

/** Has the engine write images to an archive, or read them. */
export interface ArchiveImagesStep {
  readonly kind: "save-images" | "load-images";
  readonly socket: string;
  readonly archive: string;
  readonly names: readonly string[];
}

/** Writes layers that have redirects or metadata-only copies anew, without. */
export interface RewriteLayersStep {
  readonly kind: "rewrite-layers";
  readonly root: string;
}

export interface ChangeModeStep {
  readonly kind: "change-mode";
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

export type Step =
  | WriteFileStep
  | SetParametersStep
  | StopEngineStep
  | StartEngineStep
  | VerifyEngineStep
  | CommandStep
  | MakeDirectoryStep
  | MountStep
  | UnmountStep
  | SetAsideStep
  | CopyDataStep
  | MoveImagesStep
  | NewDriverStep
  | ArchiveImagesStep
  | RewriteLayersStep
  | ChangeModeStep;

/** What a step works with. */
export interface StepContext {
  readonly host: CureHost;
  /** The cure's own directory, for backups. */
  readonly directory: string;
  /** The step's place in the plan. */
  readonly index: number;
  /** An engine may have worked on the result since: what it may have written to must be kept. */
  readonly engineRan: boolean;
  /** It was carried out to its end. */
  readonly wasDone: boolean;
  /** Aborted by the user; undo does not heed it. */
  readonly signal: AbortSignal | undefined;
  /** Tells something of the work. */
  say(message: string): void;
}

/** How the steps of one kind are done. */
export interface StepKind<S> {
  /** A line of the plan. */
  describe(step: S): string;
  apply(step: S, context: StepContext): Promise<void>;
  /** Asked of all steps before the first is undone. Errors: failed_precondition when something stands in the way. */
  checkUndo?(step: S, context: StepContext): Promise<void>;
  /** Also of a step that was killed in the middle, or not begun. Answers what it kept, which `finish` then removes. */
  undo(step: S, context: StepContext): Promise<string | undefined>;
  /** Removes what was kept for the undo; `isUndone`: what the undo kept. Answers what is left to do by hand. */
  finish?(step: S, context: StepContext, how: { readonly isUndone: boolean }): Promise<string | undefined>;
}
