/** Which evidence `doctor` is asked for, if any. */
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { usageError } from "../usage-error.ts";
import type { EvidenceFlags } from "./evidence-options.ts";

/** Gives evidence if it was asked for. False: it was not. Errors: USAGE for options that do not go together. */
export async function giveEvidence(
  cli: Cli,
  command: Command,
  flags: EvidenceFlags,
  roots: readonly string[],
): Promise<boolean> {
  const isWatch = flags.watch === true || flags.from !== undefined;
  const isMeasure = flags.measure !== undefined;
  if (isWatch && isMeasure) throw usageError("--watch and --measure do not go together");
  const asked = isWatch || isMeasure;
  for (const name of ["speedscope", "folded", "log", "dumpBy"] as const)
    if (flags[name] !== undefined && !isWatch)
      throw usageError(`--${name === "dumpBy" ? "dump-by" : name} goes with --watch`);
  if (flags.html !== undefined && !asked) throw usageError("--html goes with --watch or --measure");
  if (!flags.build && !isMeasure) throw usageError("--no-build goes with --measure");
  if (flags.entries !== undefined && flags.measure !== true)
    throw usageError("--entries goes with --measure without an image");
  if (isWatch) await (await import("./watch.ts")).runWatch(cli, command, flags);
  else if (isMeasure) await (await import("./measure.ts")).runMeasure(cli, command, flags, roots);
  return asked;
}
