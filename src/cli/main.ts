/**
 * The process: signals and exit status. Everything else of the command line is in ./program.ts and ./commands; this file
 * is the only one that ends the process.
 *
 * Exit status: 0, 1 failed, 2 wrong usage, 125-127 as `docker run`, 130 after Ctrl-C (143 after SIGTERM), 141 when the reader of a pipe left.
 */
import { constants } from "node:os";
import { isLamellaError } from "../errors/lamella-error.ts";
import { ExitRequest } from "./exit-request.ts";
import { main } from "./program.ts";
import { reportError } from "./report-error.ts";

/** A second Ctrl-C this long after the first ends the process at once; sooner it is the same key press seen twice. */
const secondInterruptMs = 400;

const canceling = new AbortController();
let interruptedAt: number | undefined;
let receivedSignal: NodeJS.Signals = "SIGINT";

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    const now = performance.now();
    if (interruptedAt !== undefined && now - interruptedAt > secondInterruptMs) process.exit(130);
    if (interruptedAt === undefined) receivedSignal = signal;
    interruptedAt ??= now;
    canceling.abort();
  });
}

function statusOfFailure(error: unknown): number {
  if (error instanceof ExitRequest) return error.status;
  try {
    const status = reportError(error);
    return isLamellaError(error, "canceled") ? 128 + constants.signals[receivedSignal] : status;
  } catch {
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2), canceling.signal).catch(statusOfFailure);
