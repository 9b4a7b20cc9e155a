import { type Command, Option } from "commander";
import { isLamellaError } from "../../errors/lamella-error.ts";
import type { Cli } from "../cli.ts";
import { addStorageOption, sizeOf } from "../container-storage.ts";
import { ExitRequest } from "../exit-request.ts";
import { collect } from "../global-options.ts";
import { stderr, stdout } from "../output.ts";
import { reportError } from "../report-error.ts";
import { searchPath } from "../search-path.ts";

interface Options {
  readonly rm?: boolean;
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly network?: "host" | "none";
  readonly entrypoint?: string;
  readonly name?: string;
  readonly hostname?: string;
  readonly readOnly?: boolean;
  readonly runtime?: "crun" | "runc" | "builtin";
  readonly storageOpt?: Readonly<Record<string, string>>;
}

/** As `docker run`: what failed before the command was started. */
const notStarted = 125;
const statusOfCode: Readonly<Record<string, number>> = { COMMAND_NOT_EXECUTABLE: 126, COMMAND_NOT_FOUND: 127 };

export function define(command: Command, cli: Cli): void {
  addStorageOption(command)
    .argument("<image>")
    .argument("[command...]", "replaces the image's CMD")
    .passThroughOptions()
    .option("--rm", "remove the container afterwards")
    .option("-e, --env <name=value>", "environment variable, repeatable; NAME alone takes the caller's value", collect)
    .option("-w, --workdir <dir>", "working directory")
    .option("-u, --user <user[:group]>", "names of the image or numbers")
    .option("-i, --interactive", "connect standard input")
    .option("-t, --tty", "give it a terminal (with -i)")
    .addOption(new Option("--network <mode>", "network").choices(["host", "none"]).default("host"))
    .option("--entrypoint <program>", "replaces the image's ENTRYPOINT; an empty one removes it")
    .option("--name <name>", "name of the container")
    .option("--hostname <name>", "host name in the container")
    .option("--read-only", "the root file system cannot be written to")
    .addOption(new Option("--runtime <name>", "what runs it").choices(["crun", "runc", "builtin"]))
    .addHelpText(
      "after",
      "\nExits as the command does; 125 when the container could not be made, 126 when the command cannot be run, 127 when\n" +
        "it is not there.\n\nExample:\n  lamella run --rm app sh -c 'echo $HOME'",
    )
    .action(async (image: string, words: string[], options: Options) => {
      try {
        cli.exitStatus = await run(image, words, options, command, cli);
      } catch (error) {
        if (error instanceof ExitRequest || isLamellaError(error, "canceled")) throw error;
        if (isLamellaError(error) && error.code === "USAGE") throw error;
        reportError(error);
        cli.exitStatus = (isLamellaError(error) ? statusOfCode[error.code] : undefined) ?? notStarted;
      }
    });
}

async function run(image: string, words: string[], options: Options, command: Command, cli: Cli): Promise<number> {
  const sizeBytes = sizeOf(options.storageOpt);
  const engine = await cli.engine(command, { forSteps: true });
  const readerGone = new AbortController();
  let failure: unknown;
  const { exitCode } = await engine
    .run({
      image,
      command: words,
      entrypoint: options.entrypoint === undefined ? undefined : [options.entrypoint].filter(Boolean),
      env: options.env?.flatMap(withCallersValue),
      workdir: options.workdir,
      user: options.user,
      network: options.network,
      hostname: options.hostname,
      name: options.name,
      remove: options.rm,
      readOnly: options.readOnly,
      sizeBytes,
      runtime: options.runtime,
      inheritStdio: options.interactive,
      tty: options.tty,
      searchPath: searchPath(),
      signal: AbortSignal.any([cli.signal, readerGone.signal]),
      onOutput: ({ stream, chunk }) => {
        if (failure !== undefined) return;
        try {
          (stream === "stdout" ? stdout : stderr).write(chunk);
        } catch (error) {
          failure = error;
          readerGone.abort();
        }
      },
    })
    .catch((error: unknown) => {
      throw failure ?? error;
    });
  return exitCode;
}

/** `NAME` alone is the caller's variable of that name, or nothing. */
function withCallersValue(pair: string): string[] {
  if (pair.includes("=")) return [pair];
  const value = process.env[pair];
  return value === undefined ? [] : [`${pair}=${value}`];
}
