/** The options every command takes, before or after its name, and the environment variables that stand in for them. */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";

export interface GlobalOptions {
  readonly root: string;
  /** Undefined: the best driver this host supports. */
  readonly driver: string | undefined;
  readonly driverOptions: Readonly<Record<string, string>>;
  readonly json: boolean;
  readonly quiet: boolean;
}

interface RawOptions {
  readonly root?: string;
  readonly driver?: string;
  readonly driverOpt?: Readonly<Record<string, string>>;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Declares the global options on a command. */
export function addGlobalOptions(command: Command): Command {
  return command
    .option("--root <dir>", "directory of the store (env LAMELLA_ROOT)")
    .option("--driver <name>", "storage driver (env LAMELLA_DRIVER)")
    .option("--driver-opt <key=value>", "option of the storage driver, repeatable", collectPair)
    .option("--json", "print JSON")
    .option("-q, --quiet", "print only what scripts need");
}

/** The global options of a command that commander has parsed. */
export function globalOptionsOf(command: Command): GlobalOptions {
  const before = (command.parent?.opts() ?? {}) as RawOptions;
  const after = command.opts() as RawOptions;
  const env = process.env;
  return {
    root: resolve(after.root ?? before.root ?? (env.LAMELLA_ROOT || defaultRoot())),
    driver: after.driver ?? before.driver ?? (env.LAMELLA_DRIVER || undefined),
    driverOptions: { ...before.driverOpt, ...after.driverOpt },
    json: after.json ?? before.json ?? false,
    quiet: after.quiet ?? before.quiet ?? false,
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

/** Collects the values of a repeatable option. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}
