/**
 * What a Dockerfile says, one tagged object an instruction. Words are as written: variables are not expanded and quotes
 * not removed, except in exec forms (JSON) and flags; `expandInstruction` does the rest once the environment is known.
 */
import type { LineRange } from "./dockerfile-error.ts";

export interface InstructionBase extends LineRange {
  /** The keyword as written (`run`). */
  readonly keyword: string;
  /** The whole instruction on one line: continuations joined, comments and heredoc bodies left out. */
  readonly original: string;
}

/** A RUN, CMD or ENTRYPOINT: a JSON array, or text for the shell. */
export type CommandForm =
  | { readonly form: "exec"; readonly argv: readonly string[] }
  | { readonly form: "shell"; readonly text: string };

/** A here-document: `<<NAME`, `<<-NAME`, `<<"NAME"`. */
export interface Heredoc extends LineRange {
  readonly name: string;
  /** The lines between, with their line ends; leading tabs already removed for `<<-`. */
  readonly content: string;
  /** The lines as written, tabs included. */
  readonly raw: string;
  /** False when the delimiter was quoted. */
  readonly expand: boolean;
  /** `<<-`. */
  readonly stripTabs: boolean;
}

export interface KeyValue {
  readonly name: string;
  readonly value: string;
}

export interface FromInstruction extends InstructionBase {
  readonly kind: "from";
  /** An image, a stage before this one, or `scratch`; may hold variables. */
  readonly image: string;
  /** The stage's name, in lower case. */
  readonly name?: string;
  readonly nameAsWritten?: string;
  /** `AS` as written. */
  readonly asKeyword?: string;
  readonly platform?: string;
}

export interface RunInstruction extends InstructionBase {
  readonly kind: "run";
  readonly command: CommandForm;
  readonly heredocs: readonly Heredoc[];
  /** Values of `--mount`, in order. */
  readonly mounts: readonly string[];
  readonly network?: string;
  readonly security?: string;
}

interface Transfer extends InstructionBase {
  readonly sources: readonly string[];
  readonly destination: string;
  /** Files given in the Dockerfile itself; they are sources too. */
  readonly heredocs: readonly Heredoc[];
  readonly chown?: string;
  readonly chmod?: string;
  readonly link: boolean;
  readonly exclude: readonly string[];
}

export interface CopyInstruction extends Transfer {
  readonly kind: "copy";
  /** A stage's name or number, or an image. */
  readonly from?: string;
  readonly parents: boolean;
}

export interface AddInstruction extends Transfer {
  readonly kind: "add";
  readonly checksum?: string;
  readonly keepGitDir: boolean;
  readonly unpack?: boolean;
}

export interface EnvInstruction extends InstructionBase {
  readonly kind: "env";
  readonly pairs: readonly KeyValue[];
  /** `ENV NAME value with spaces`. */
  readonly legacy: boolean;
}

export interface LabelInstruction extends InstructionBase {
  readonly kind: "label";
  readonly pairs: readonly KeyValue[];
  readonly legacy: boolean;
}

export interface ArgInstruction extends InstructionBase {
  readonly kind: "arg";
  readonly args: readonly { readonly name: string; readonly value?: string }[];
}

export interface WorkdirInstruction extends InstructionBase {
  readonly kind: "workdir";
  readonly path: string;
}

export interface UserInstruction extends InstructionBase {
  readonly kind: "user";
  readonly user: string;
}

export interface CmdInstruction extends InstructionBase {
  readonly kind: "cmd";
  readonly command: CommandForm;
}

export interface EntrypointInstruction extends InstructionBase {
  readonly kind: "entrypoint";
  readonly command: CommandForm;
}

export interface ShellInstruction extends InstructionBase {
  readonly kind: "shell";
  readonly argv: readonly string[];
}

export interface ExposeInstruction extends InstructionBase {
  readonly kind: "expose";
  /** As written; `parsePorts` reads them once they are expanded. */
  readonly ports: readonly string[];
}

export interface VolumeInstruction extends InstructionBase {
  readonly kind: "volume";
  readonly paths: readonly string[];
}

export interface StopsignalInstruction extends InstructionBase {
  readonly kind: "stopsignal";
  readonly signal: string;
}

/** Durations in nanoseconds, absent where not given. */
export interface HealthcheckInstruction extends InstructionBase {
  readonly kind: "healthcheck";
  /** `["NONE"]`, `["CMD", arg…]` or `["CMD-SHELL", text]`: the config's `Test`. */
  readonly test: readonly string[];
  readonly intervalNs?: number;
  readonly timeoutNs?: number;
  readonly startPeriodNs?: number;
  readonly startIntervalNs?: number;
  readonly retries?: number;
}

export interface OnbuildInstruction extends InstructionBase {
  readonly kind: "onbuild";
  /** The trigger's text, as the config's `OnBuild` holds it. */
  readonly trigger: string;
}

export interface MaintainerInstruction extends InstructionBase {
  readonly kind: "maintainer";
  readonly maintainer: string;
}

/** Any instruction inside a stage. */
export type Instruction =
  | RunInstruction
  | CopyInstruction
  | AddInstruction
  | EnvInstruction
  | LabelInstruction
  | ArgInstruction
  | WorkdirInstruction
  | UserInstruction
  | CmdInstruction
  | EntrypointInstruction
  | ShellInstruction
  | ExposeInstruction
  | VolumeInstruction
  | StopsignalInstruction
  | HealthcheckInstruction
  | OnbuildInstruction
  | MaintainerInstruction;

export interface Stage {
  /** From 0; COPY --from may use it. */
  readonly index: number;
  /** `from.image`. */
  readonly base: string;
  readonly name?: string;
  readonly platform?: string;
  readonly from: FromInstruction;
  readonly instructions: readonly Instruction[];
}

/** The comments at the head of the file that mean something. */
export interface Directives {
  readonly escape: "\\" | "`";
  /** `# syntax=`: recorded; Lamella never fetches or runs a front end. */
  readonly syntax?: string;
  readonly check?: string;
}

export interface Dockerfile {
  readonly directives: Directives;
  /** ARG instructions before the first FROM. */
  readonly globalArgs: readonly ArgInstruction[];
  readonly stages: readonly Stage[];
  /** Lines that are blank inside a continued instruction. */
  readonly emptyContinuationLines: readonly number[];
}
