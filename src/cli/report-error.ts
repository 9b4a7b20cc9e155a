/** Errors as the user sees them: one line that names the object, then what to do about it. */
import { isLamellaError } from "../errors/lamella-error.ts";
import { exitStatusOf } from "../errors/statuses.ts";
import { stderr } from "./output.ts";
import { stderrStyle } from "./style.ts";

/** Prints an error on standard error and answers the exit status for it. LAMELLA_DEBUG=1 adds the stack. */
export function reportError(error: unknown): number {
  const style = stderrStyle();
  const message = error instanceof Error ? error.message : String(error);
  const hint = isLamellaError(error) ? error.hint : undefined;
  stderr.write(`${style.red("lamella:")} ${message}\n`);
  if (hint !== undefined) stderr.write(`${style.yellow("hint:")} ${hint}\n`);
  const isOfSystem = error instanceof Error && "syscall" in error && "code" in error;
  const unexpected = isLamellaError(error) ? error.kind === "internal" : !isOfSystem;
  if (process.env.LAMELLA_DEBUG === "1" && error instanceof Error) stderr.write(`${error.stack}\n`);
  else if (unexpected) stderr.write(`${style.yellow("hint:")} set LAMELLA_DEBUG=1 to see where this came from\n`);
  return exitStatusOf(error);
}
