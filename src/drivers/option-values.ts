/**
 * The values of storage options, as Docker writes them: `readOptions` checks what was given against ./storage-options.ts, and
 * what it answers reads each value as what it is. All errors are invalid_argument with the code DRIVER_OPTION.
 *
 *     const options = readOptions("btrfs", given);
 *     const minSpace = options.sizeBytes("btrfs.min_space");
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { nearest } from "../lib/nearest.ts";
import { type DriverName, type OptionName, type StorageOption, storageOptions } from "./storage-options.ts";

/** What was given to a driver, each value read when it is asked for; undefined where nothing was given. */
export class OptionValues<Name extends string> {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  text(name: Name): string | undefined {
    return this.#values.get(name);
  }

  /** Bytes, of `10G`, `512mb`. */
  sizeBytes(name: Name): number | undefined {
    return this.#read(name, parseSize, "a size such as 10G or 512mb");
  }

  boolean(name: Name): boolean | undefined {
    return this.#read(name, parseBoolean, "true or false");
  }

  onOff(name: Name): boolean | undefined {
    return this.#read(name, parseOnOff, "on or off");
  }

  /** A whole number, of `10%` or `10`. */
  percent(name: Name): number | undefined {
    return this.#read(name, (text) => parseWhole(text.replace(/%$/, "")), "a percentage such as 10%");
  }

  whole(name: Name): number | undefined {
    return this.#read(name, parseWhole, "a whole number");
  }

  #read<T>(name: Name, parse: (text: string) => T | undefined, wanted: string): T | undefined {
    const text = this.#values.get(name);
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) throw optionError(`${name}=${text}: the value is not ${wanted}`);
    return value;
  }
}

/**
 * Checks the names of options given to a driver. Names may be written in any case, except to vfs, as in Docker; spaces around
 * names and values do not count.
 */
export function readOptions<D extends DriverName>(
  driver: D,
  given: Readonly<Record<string, string>>,
): OptionValues<OptionName<D>> {
  const values = new Map<string, string>();
  for (const [key, value] of Object.entries(given)) {
    const name = driver === "vfs" ? key.trim() : key.trim().toLowerCase();
    checkName(driver, name);
    values.set(name, value.trim());
  }
  return new OptionValues(values);
}

/** Splits `key=value` at the first `=`, without the spaces around both. */
export function parseKeyValue(pair: string): readonly [key: string, value: string] {
  const equals = pair.indexOf("=");
  if (equals < 0) throw optionError(`unable to parse storage-opt key/value: ${pair}`, "write it as key=value");
  return [pair.slice(0, equals).trim(), pair.slice(equals + 1).trim()];
}

/**
 * Bytes, as `RAMInBytes` of docker/go-units reads them: a number, which may have a fraction, perhaps one space, and perhaps a
 * unit of 1024s (`k m g t p`, also as `kb` and `KiB`) or `b`. Undefined for anything else.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\+?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?$/i.exec(text);
  if (match === null) return undefined;
  const bytes = Math.floor(Number(match[1]) * 1024 ** " kmgtp".indexOf((match[2] ?? " ").toLowerCase()));
  return Number.isFinite(bytes) ? bytes : undefined;
}

/** The words of Go's strconv.ParseBool. Undefined for anything else. */
export function parseBoolean(text: string): boolean | undefined {
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) return true;
  return ["0", "f", "F", "FALSE", "false", "False"].includes(text) ? false : undefined;
}

/** An error about what was given to a driver. */
export function optionError(message: string, hint?: string): LamellaError {
  return new LamellaError("invalid_argument", "DRIVER_OPTION", message, { hint });
}

function parseOnOff(text: string): boolean | undefined {
  return text === "on" ? true : text === "off" ? false : undefined;
}

function parseWhole(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function checkName(driver: DriverName, name: string): void {
  const options: readonly StorageOption[] = storageOptions[driver];
  const option = options.find((known) => known.name === name);
  if (option?.gone !== undefined) throw optionError(`${name} was ${option.gone}`, "leave it out");
  if (option !== undefined) return;
  const message = `${driver}: unknown option ${name}`;
  const names = options.filter(({ gone }) => gone === undefined).map((known) => known.name);
  const known = names.length === 0 ? `${driver} has no options` : `known are ${names.join(", ")}`;
  const owner = Object.entries<readonly StorageOption[]>(storageOptions).find(([, list]) =>
    list.some((other) => other.name === name),
  )?.[0];
  if (owner !== undefined) throw optionError(message, `it is an option of the driver ${owner}; ${known}`);
  const near = nearest(name, names, 1)[0];
  throw optionError(message, near === undefined ? known : `did you mean ${near}? ${known}`);
}
