/**
 * The options every command takes, before or after its name, and what stands in for them: environment variables, then a
 * configuration file of Docker's (./daemon-config.ts).
 */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { parseKeyValue } from "../drivers/option-values.ts";
import { readDaemonConfig } from "./daemon-config.ts";

export interface GlobalOptions {
  readonly root: string;
  /** Undefined: the best driver this host supports. */
  readonly driver: string | undefined;
  readonly driverOptions: Readonly<Record<string, string>>;
  readonly json: boolean;
  readonly quiet: boolean;
  /** What the user should know of how these came about, a line each. */
  readonly notes: readonly string[];
}

interface RawOptions {
  readonly root?: string;
  readonly driver?: string;
  readonly driverOpt?: Readonly<Record<string, string>>;
  readonly config?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Those that take a value, for who looks for the first word that is no option. */
export const globalOptionsWithValue = ["--root", "--driver", "--driver-opt", "--storage-opt", "--config"];

/** Declares the global options on a command. `storageOpt`: the command has an option `--storage-opt` of its own. */
export function addGlobalOptions(command: Command, own: { readonly storageOpt?: boolean } = {}): Command {
  return command
    .option("--root <dir>", "directory of the store (env LAMELLA_ROOT)")
    .option("--driver <name>", "storage driver (env LAMELLA_DRIVER)")
    .option(
      own.storageOpt ? "--driver-opt <key=value>" : "--storage-opt, --driver-opt <key=value>",
      "option of the storage driver, repeatable",
      collectOption,
    )
    .option("--config <file>", "Docker's daemon.json, for what is not given otherwise (env LAMELLA_CONFIG)")
    .option("--json", "print JSON")
    .option("-q, --quiet", "print only what scripts need");
}

/**
 * The global options of a command that commander has parsed: the command line before the environment before the file.
 * Errors: those of reading the file.
 */
export function globalOptionsOf(command: Command): GlobalOptions {
  const before = (command.parent?.opts() ?? {}) as RawOptions;
  const after = command.opts() as RawOptions;
  const env = process.env;
  const path = after.config ?? before.config ?? (env.LAMELLA_CONFIG || undefined);
  const file = path === undefined ? undefined : readDaemonConfig(path);
  const asked = after.driver ?? before.driver ?? (env.LAMELLA_DRIVER || undefined);
  // What the file has for one driver is nothing to another.
  const isForFiles = asked === undefined || file?.driver === undefined || file.driver === asked;
  return {
    root: resolve(after.root ?? before.root ?? (env.LAMELLA_ROOT || file?.root || defaultRoot())),
    driver: asked ?? file?.driver,
    driverOptions: { ...(isForFiles ? file?.driverOptions : {}), ...before.driverOpt, ...after.driverOpt },
    json: after.json ?? before.json ?? false,
    quiet: after.quiet ?? before.quiet ?? false,
    notes: file?.notes ?? [],
  };
}

/**
 * Where the store lies when nobody says: of root in /var/lib, of anybody else among their data (XDG Base Directory
 * Specification). Root of a user namespace that this program made is the user who made it.
 */
function defaultRoot(): string {
  const { LAMELLA_ROOTLESS, XDG_DATA_HOME } = process.env;
  if (process.getuid?.() === 0 && LAMELLA_ROOTLESS !== "1") return "/var/lib/lamella";
  return join(XDG_DATA_HOME || join(homedir(), ".local/share"), "lamella");
}

/** Parses one `key=value` of a repeatable option. */
export function collectPair(pair: string, previous: Readonly<Record<string, string>> = {}): Record<string, string> {
  const equals = pair.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError(`${JSON.stringify(pair)} is not key=value.`);
  return { ...previous, [pair.slice(0, equals)]: pair.slice(equals + 1) };
}

/** Parses one `key=value` of `--storage-opt` as Docker does. */
export function collectOption(pair: string, previous: Readonly<Record<string, string>> = {}): Record<string, string> {
  if (!pair.includes("=")) throw new InvalidArgumentError(`unable to parse storage-opt key/value: ${pair}`);
  const [key, value] = parseKeyValue(pair);
  return { ...previous, [key]: value };
}

/** Collects the values of a repeatable option. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}
