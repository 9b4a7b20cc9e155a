/** Archives on standard input and output, which a person's terminal is not made for. */
import { isatty } from "node:tty";
import { stdout } from "./output.ts";
import { usageError } from "./usage-error.ts";

/** The bytes of standard input, not touched before they are asked for. Refuses a terminal (USAGE). */
export function standardInput(): AsyncIterable<Uint8Array> {
  if (isatty(0)) throw usageError("standard input is a terminal", "give a file, or pipe an archive in");
  return (async function* () {
    yield* process.stdin as AsyncIterable<Uint8Array>;
  })();
}

/** A sink that writes to standard output. Refuses a terminal (USAGE). */
export function standardOutput(): (chunk: Uint8Array) => Promise<void> {
  if (stdout.isTTY) {
    throw usageError("standard output is a terminal", "name a file with -o, or pipe the archive somewhere");
  }
  return async (chunk) => stdout.write(chunk);
}
