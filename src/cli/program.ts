/**
 * From arguments to a command. Commander parses; only the command asked for is defined in full, the others are known by
 * name and summary, for `--help` and for "did you mean".
 */
import { Command, CommanderError } from "commander";
import type { LamellaError } from "../errors/lamella-error.ts";
import { Cli } from "./cli.ts";
import { type CommandEntry, commandTable } from "./command-table.ts";
import { ExitRequest } from "./exit-request.ts";
import { addGlobalOptions, globalOptionsWithValue } from "./global-options.ts";
import { stderr, stdout } from "./output.ts";
import { versionOfPackage } from "./package-version.ts";
import { usageError } from "./usage-error.ts";

/** Runs the command line. Answers the exit status; failures are thrown. */
export async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const cli = new Cli(argv, signal);
  const name = commandNameOf(argv);
  const wanted = name === "help" ? argv.find((arg, i) => !arg.startsWith("-") && i > argv.indexOf("help")) : name;
  const program = makeProgram();
  const known = wanted !== undefined && commandTable[wanted] !== undefined;
  if (wanted !== undefined && !known) throw await unknownCommand(wanted);
  for (const command of known ? [wanted] : Object.keys(commandTable)) {
    const entry = commandTable[command] as CommandEntry;
    const sub = prepare(program.command(command), entry).summary(entry.summary).description(`${entry.summary}.`);
    if (known) (await entry.load()).define(sub, cli);
    else sub.helpGroup(`${entry.group}:`);
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return cli.exitStatus;
  } catch (error) {
    if (error instanceof ExitRequest) return error.status;
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      if (error.code === "commander.help") return 2;
      throw misuse(error.message, name);
    }
    if (cli.writing === undefined) throw error;
    const { explainFullDisk } = await import("./disk-full.ts");
    throw explainFullDisk(error, cli.writing);
  } finally {
    await cli.close();
  }
}

function makeProgram(): Command {
  const program = new Command("lamella")
    .description("Container layers: store, stack, diff, build. Every diff is native.")
    .usage("[options] <command>")
    .version(versionOfPackage(), "-v, --version", "print the version")
    .helpCommand("help [command]", "show help of a command")
    .enablePositionalOptions()
    .configureHelp({ subcommandTerm: (sub) => sub.name() })
    .addHelpText("after", "\n`lamella <command> --help` shows a command's options and an example.")
    .action(() => program.help({ error: true }));
  return prepare(program);
}

/** What all commands have in common. Commander's own messages are thrown, not printed. */
function prepare(command: Command, entry?: CommandEntry): Command {
  command.exitOverride().configureOutput({ writeOut: stdout.write, writeErr: stderr.write, outputError: () => {} });
  return addGlobalOptions(command, { storageOpt: entry?.hasStorageOpt ?? false });
}

/** The first argument that is neither an option nor the value of one. */
function commandNameOf(argv: readonly string[]): string | undefined {
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] ?? "";
    if (globalOptionsWithValue.includes(arg)) i++;
    else if (!arg.startsWith("-")) return arg;
  }
  return undefined;
}

async function unknownCommand(name: string): Promise<LamellaError> {
  const { nearest } = await import("../lib/nearest.ts");
  const near = nearest(name, [...Object.keys(commandTable), "help"]);
  const hint = near.length > 0 ? `did you mean ${near.join(" or ")}?` : "`lamella --help` lists the commands";
  return usageError(`unknown command ${JSON.stringify(name)}`, hint);
}

/** Commander's complaint, with its "Did you mean" as the hint. */
function misuse(complaint: string, name: string | undefined): LamellaError {
  const [, message = complaint, suggestion] = /^(?:error: )?(.*?)(?:\n\((.*)\))?$/s.exec(complaint) ?? [];
  const help = name !== undefined && commandTable[name] !== undefined ? `lamella ${name} --help` : "lamella --help";
  return usageError(message, suggestion?.replace(/^D/, "d") ?? `\`${help}\` shows the usage`);
}
