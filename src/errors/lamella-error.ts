/**
 * The one error type. `kind` says what class of thing went wrong (containerd's names) and is all that exit codes, HTTP
 * and gRPC statuses are derived from; `code` is a stable machine-readable name of the exact case; `message` names the
 * object; `hint` says what to do next.
 */

/** The kinds of failure, named as containerd's errdefs names them. */
export const errorKinds = [
  "not_found",
  "already_exists",
  "invalid_argument",
  "failed_precondition",
  "permission_denied",
  "resource_exhausted",
  "unavailable",
  "unimplemented",
  "data_loss",
  "aborted",
  "canceled",
  "internal",
] as const;

export type ErrorKind = (typeof errorKinds)[number];

export interface LamellaErrorOptions {
  /** What the user can do about it: one sentence, imperative. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** An error with a kind, a stable code, and a message that names the object concerned. */
export class LamellaError extends Error {
  readonly kind: ErrorKind;
  /** Stable, upper snake case for our own cases (`DIGEST_MISMATCH`), an errno name (`ENOENT`) for system calls. */
  readonly code: string;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, code: string, message: string, options: LamellaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "LamellaError";
    this.kind = kind;
    this.code = code;
    this.hint = options.hint;
  }
}

/** True when `error` is a LamellaError of one of `kinds` (any kind when none is given). */
export function isLamellaError(error: unknown, ...kinds: readonly ErrorKind[]): error is LamellaError {
  return error instanceof LamellaError && (kinds.length === 0 || kinds.includes(error.kind));
}

/** Throws the `canceled` error when `signal` has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new LamellaError("canceled", "ABORTED", "the operation was canceled", { cause: signal.reason });
}

/** What crosses a thread boundary in place of an error object. */
export interface PlainError {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly stack?: string | undefined;
}

/** Flattens any thrown value so that it can be posted to another thread. */
export function toPlainError(error: unknown): PlainError {
  if (error instanceof LamellaError) {
    return { kind: error.kind, code: error.code, message: error.message, hint: error.hint, stack: error.stack };
  }
  const e = error instanceof Error ? error : new Error(String(error));
  return { kind: "internal", code: "UNEXPECTED", message: e.message, stack: e.stack };
}

/** Rebuilds the error that {@link toPlainError} flattened. */
export function fromPlainError(plain: PlainError): LamellaError {
  const error = new LamellaError(plain.kind, plain.code, plain.message, { hint: plain.hint });
  if (plain.stack !== undefined) error.stack = plain.stack;
  return error;
}
