import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { isatty } from "node:tty";
import { type Command, Option } from "commander";
import { type BuildOutput, parseOutput, writeOutput } from "../build-output.ts";
import { BuildProgress, type ProgressMode } from "../build-progress.ts";
import type { Cli } from "../cli.ts";
import { collect, collectPair } from "../global-options.ts";
import { stderr } from "../output.ts";
import { searchPath } from "../search-path.ts";
import { usageError } from "../usage-error.ts";

interface Options {
  readonly file?: string;
  readonly tag?: readonly string[];
  readonly target?: string;
  readonly buildArg?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly network?: "host" | "none";
  readonly cache: boolean;
  readonly platform?: string;
  readonly output?: readonly BuildOutput[];
  readonly secret?: Readonly<Record<string, Uint8Array>>;
  readonly iidfile?: string;
  readonly progress: "auto" | "plain" | "tty" | "none";
  readonly runtime?: "crun" | "runc" | "builtin";
}

export function define(command: Command, cli: Cli): void {
  command
    .argument("<context>", "directory that COPY and ADD take files from")
    .option("-t, --tag <name>", "name[:tag] of the image, repeatable", collect)
    .option("-f, --file <path>", "the Dockerfile, or - for standard input (default: Dockerfile in the context)")
    .option("--target <stage>", "stop at this stage")
    .option("--build-arg <name=value>", "value of an ARG, repeatable; NAME alone takes the caller's value", collect)
    .option("--label <name=value>", "label of the image, repeatable", collectPair)
    .addOption(new Option("--network <mode>", "network of RUN steps").choices(["host", "none"]).default("host"))
    .option("--no-cache", "carry every step out")
    .option("--platform <os/arch>", "platform of the image (default: this host's)")
    .option(
      "-o, --output <type=T,dest=P>",
      "also write the result: oci or docker (archives), tar or local (the files); repeatable",
      (text: string, previous: readonly BuildOutput[] = []) => [...previous, parseOutput(text)],
    )
    .option("--secret <id=I,src=P>", "file for RUN --mount=type=secret, repeatable", collectSecret)
    .option("--iidfile <path>", "write the image's ID to a file")
    .addOption(
      new Option("--progress <mode>", "how to show what happens")
        .choices(["auto", "tty", "plain", "none"])
        .default("auto"),
    )
    .addOption(new Option("--runtime <name>", "what runs RUN steps").choices(["crun", "runc", "builtin"]))
    .addHelpText("after", "\nExample:\n  lamella build -t app:1.0 --build-arg VERSION=1.0 .")
    .action((context: string, options: Options) => build(context, options, command, cli));
}

async function build(context: string, options: Options, command: Command, cli: Cli): Promise<void> {
  if (context === "-") throw usageError("a context from standard input is not supported", "give a directory");
  if (options.file === "-" && isatty(0)) throw usageError("standard input is a terminal", "pipe a Dockerfile in");
  const sourceDateEpoch = cli.sourceDateEpoch();
  const engine = await cli.engine(command, { forSteps: true });
  const { json, quiet } = cli.globals(command);
  const startedAt = performance.now();
  using progress = new BuildProgress(modeOf(options.progress, quiet));
  const { image, warnings } = await engine.build({
    context: resolve(context),
    ...(options.file === "-"
      ? { dockerfile: readFileSync(0, "utf8") }
      : { file: options.file === undefined ? undefined : resolve(options.file) }),
    tags: options.tag,
    target: options.target,
    buildArgs: pairsOf(options.buildArg),
    labels: options.label,
    network: options.network,
    noCache: !options.cache,
    platform: options.platform,
    sourceDateEpoch,
    secrets: options.secret,
    searchPath: searchPath(),
    runtime: options.runtime,
    signal: cli.signal,
    onEvent: progress.on,
  });
  progress.finish(image.id, options.tag ?? [], performance.now() - startedAt);
  for (const output of options.output ?? []) {
    await writeOutput(engine, options.tag?.[0] ?? image.id, output, cli.signal);
    progress.print(`written: ${output.dest}`);
  }
  if (options.iidfile !== undefined) writeFileSync(options.iidfile, image.id);
  if (json) cli.printJson({ ...image, tags: options.tag ?? [], warnings, steps: progress.reports });
  else if (quiet) cli.print(image.id);
}

function modeOf(progress: Options["progress"], quiet: boolean): ProgressMode {
  if (quiet || progress === "none") return "none";
  if (progress === "auto") return stderr.isTTY && process.env.TERM !== "dumb" ? "tty" : "plain";
  return progress;
}

/** `NAME` alone is the caller's variable of that name; when that is not set, the ARG keeps its default. */
function pairsOf(words: readonly string[] = []): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? process.env[name] : word.slice(equals + 1);
    if (value !== undefined) pairs[name] = value;
  }
  return pairs;
}

/** `id=I,src=P`, as `docker build --secret` takes it. */
function collectSecret(text: string, previous: Readonly<Record<string, Uint8Array>> = {}): Record<string, Uint8Array> {
  const fields = new Map(text.split(",").map((field) => field.split(/=(.*)/s, 2) as [string, string]));
  const source = fields.get("src") ?? fields.get("source");
  const id = fields.get("id");
  if (id === undefined || source === undefined) throw usageError(`--secret ${text} is not id=NAME,src=FILE`);
  return { ...previous, [id]: readFileSync(source) };
}
