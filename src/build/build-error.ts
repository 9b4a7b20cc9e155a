/** The error of a build step: which line, which instruction, and for a RUN how it ended. */
import { type ErrorKind, LamellaError } from "../errors/lamella-error.ts";

export interface BuildErrorDetails {
  /** Name of the Dockerfile for messages. */
  readonly fileName: string;
  readonly line: number;
  /** The instruction on one line. */
  readonly text: string;
  /** Exit code of a RUN, as `docker run` counts. */
  readonly exitCode?: number;
  readonly signal?: string | undefined;
}

/** `message` begins with `Dockerfile:LINE: INSTRUCTION`. */
export class BuildError extends LamellaError {
  readonly line: number;
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;

  constructor(
    kind: ErrorKind,
    code: string,
    problem: string,
    details: BuildErrorDetails,
    options: { readonly hint?: string | undefined; readonly cause?: unknown } = {},
  ) {
    const text = details.text.length > 200 ? `${details.text.slice(0, 200)}…` : details.text;
    super(kind, code, `${details.fileName}:${details.line}: ${text}: ${problem}`, options);
    this.name = "BuildError";
    this.line = details.line;
    this.exitCode = details.exitCode;
    this.signal = details.signal;
  }
}
