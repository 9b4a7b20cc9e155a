/** The options of `doctor` that give evidence instead of a diagnosis: `--measure` and `--watch`. */
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Cli } from "../cli.ts";

export interface EvidenceFlags {
  readonly measure?: string | true;
  readonly entries?: number;
  /** False with `--no-build`. */
  readonly build: boolean;
  readonly watch?: true;
  readonly samples: number;
  readonly interval: number;
  readonly dumpBy?: "endpoint" | "signal";
  readonly log?: string;
  readonly from?: readonly string[];
  readonly html?: string;
  readonly speedscope?: string;
  readonly folded?: string;
}

export const evidenceExamples = `
  sudo lamella doctor --watch --html flames.html          what dockerd does, while a slow build runs
  lamella doctor --watch --from cpu.pprof --speedscope cpu.json
  sudo lamella doctor --measure --html cost.html          what a build step's diff costs here, natively and naively
  sudo lamella doctor --measure python:3.12
  sudo lamella doctor --measure --no-build                without giving dockerd anything to do`;

const maxSamples = 10_000;

export function addEvidenceOptions(command: Command): void {
  command
    .option(
      "--measure [image]",
      "measure diffs on the data root's file system, with an image, a directory or a made tree",
    )
    .option("--entries <n>", "files and directories in the made tree (default: 20000)", wholeNumber(100, 2_000_000))
    .option("--no-build", "with --measure: leave the docker build out; the daemon is given and builds nothing")
    .option("--watch", "look at what dockerd does, several times, while a build runs")
    .option("--samples <n>", "with --watch: how many times", wholeNumber(1, maxSamples), 30)
    .option("--interval <seconds>", "with --watch: time between two looks", seconds, 0.3)
    .addOption(
      new Option("--dump-by <way>", "with --watch: how to see its goroutines; default: what works").choices([
        "endpoint",
        "signal",
      ]),
    )
    .option("--log <file>", "with --watch: dockerd's log, where it is in a file")
    .option("--from <file>", "read a goroutine dump, pprof profile or folded stacks instead (may be repeated)", collect)
    .option("--html <file>", "write the report as one HTML file, with a flame graph or charts")
    .option("--speedscope <file>", "with --watch: write the profile for speedscope")
    .option("--folded <file>", "with --watch: write the profile as folded stacks");
}

/** Variables that say where a daemon is. */
export function callersEnvironment(): Readonly<Record<string, string | undefined>> {
  return { ...process.env, HOME: homedir() };
}

/** Writes a report's file and says so. */
export function writeReport(cli: Cli, path: string | undefined, text: () => string): void {
  if (path === undefined) return;
  writeFileSync(path, text());
  cli.note(`written: ${path}`);
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    return value;
  };
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^[0-9]*\.?[0-9]+$/.test(text) || value > 3600) throw new InvalidArgumentError("It must be seconds, 0 to 3600.");
  return value;
}
