/**
 * Which driver a root gets. A name that somebody gives wins. Else the driver whose layers the root holds: a root with layers
 * of two drivers is an error, since either choice would hide images, unless it is being moved from one to the other. Else the first of {@link unasked} that works here.
 * docs/adr/0009-choice-of-driver.md has the reasons.
 */
import { isLamellaError, LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { nearest } from "../lib/nearest.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { Driver, DriverFactory } from "./driver.ts";
import { foreignRootError } from "./foreign-root.ts";
import { isLayerId } from "./layer-id.ts";
import { chosenDriver } from "./migration-record.ts";
import type { DriverName } from "./storage-options.ts";

/** The drivers that a root without layers may get unasked, the first that works here. */
const unasked: readonly DriverName[] = ["overlay2", "btrfs", "zfs", "fuse-overlay"];

/** Why a driver is for those alone who ask for it by name. */
const byNameOnly: Partial<Readonly<Record<DriverName, string>>> = {
  vfs: "every layer is a full copy of its parent",
  aufs: "it is for layers that are in its form already",
  overlay: "every layer takes an inode for each file below it; overlay2 takes none",
  devicemapper: "its pool takes its space for good, and on loop files it is slow",
};

export type Factories = ReadonlyMap<string, DriverFactory>;

export interface DriverWish {
  /** Absolute path of the directory below which each driver has its home, `<root>/<name>`. It exists. */
  readonly root: ByteString;
  /** The driver asked for. */
  readonly name?: string | undefined;
  /** Options of the driver, as `--storage-opt` has them. */
  readonly options?: Readonly<Record<string, string>> | undefined;
}

/** How a choice came about: of each driver, why it was chosen or was not. */
export interface Choice {
  readonly driver: Driver | undefined;
  /** What stood in the way of a choice. */
  readonly error: LamellaError | undefined;
  readonly reasons: ReadonlyMap<string, string>;
}

/**
 * Chooses among `factories` and opens. What refuses a choice is in the answer (invalid_argument for an unknown driver or
 * option, failed_precondition when none or not the one asked for works here); anything else that fails is thrown.
 */
export async function chooseDriver(factories: Factories, wish: DriverWish): Promise<Choice> {
  const { root, name } = wish;
  const foreign = foreignRootError(root);
  if (foreign !== undefined) return refused(factories, foreign);
  const populated = [...factories.values()].filter((factory) => hasLayers(root, factory)).map((one) => one.name);
  if (name !== undefined) {
    if (!factories.has(name)) return refused(factories, unknownDriver(factories, name));
    return choose(factories, wish, [name], { chosen: "it was asked for", others: `${name} was asked for` });
  }
  const [only, second] = populated;
  const moving = second === undefined ? undefined : chosenDriver(root);
  if (moving !== undefined && populated.includes(moving)) {
    const others = `${moving} counts while the root is being moved (\`lamella migrate\`)`;
    return choose(factories, wish, [moving], { chosen: "it counts while the root is being moved", others });
  }
  if (second !== undefined) return refused(factories, severalDrivers(root, populated));
  if (only !== undefined) {
    const others = `the root holds layers of ${only}`;
    return choose(factories, wish, [only], { chosen: "the root holds its layers", others });
  }
  return choose(factories, wish, unasked, { chosen: "the first in the order of preference that works here" });
}

/** True when the driver has a layer under the root. */
export function hasLayers(root: ByteString, { name, layersFolder }: DriverFactory): boolean {
  const fd = raw.openat(AT_FDCWD, `${root}/${name}/${layersFolder}`, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return false;
  using directory = new sys.OwnedFd(fd);
  return sys.readdir(directory.fd).some((entry) => isLayerId(entry.name));
}

/** Opens the first of `names` that does not refuse. `others`: why the rest was not chosen, where that is one reason. */
async function choose(
  factories: Factories,
  { root, options = {} }: DriverWish,
  names: readonly string[],
  why: { readonly chosen: string; readonly others?: string },
): Promise<Choice> {
  const refusals = new Map<string, LamellaError>();
  let driver: Driver | undefined;
  for (const name of names) {
    const factory = factories.get(name);
    if (factory === undefined) continue;
    try {
      driver = await factory.open(`${root}/${name}`, options);
      break;
    } catch (error) {
      if (!isLamellaError(error)) throw error;
      refusals.set(name, error);
      // A wrong option, say, is a mistake to be told, not a reason to take the next.
      if (error.code !== "DRIVER_UNSUPPORTED") break;
    }
  }
  const reasons = new Map<string, string>();
  for (const name of factories.keys()) {
    const refusal = refusals.get(name);
    if (name === driver?.name) reasons.set(name, `chosen: ${why.chosen}`);
    else if (refusal !== undefined) reasons.set(name, `not possible: ${refusal.message}`);
    else reasons.set(name, `not chosen: ${why.others ?? passedOver(name, driver)}`);
  }
  if (driver !== undefined) return { driver, error: undefined, reasons };
  return { driver, error: whyNone(root, [...refusals.values()], names.length > 1), reasons };
}

function passedOver(name: string, driver: Driver | undefined): string {
  const reason = byNameOnly[name as DriverName];
  if (reason !== undefined) return `only for those who ask for it, as ${reason}`;
  return driver === undefined ? "the choice ended before it" : `${driver.name} is preferred`;
}

/** The refusal that ended the choice, or all of them in one. */
function whyNone(root: ByteString, refusals: readonly LamellaError[], wasChoice: boolean): LamellaError {
  const last = refusals.at(-1);
  if (last !== undefined && (!wasChoice || last.code !== "DRIVER_UNSUPPORTED")) return last;
  const reasons = refusals.map((error) => error.message).join("; ");
  const hint = refusals.map((error) => error.hint).find((one) => one !== undefined);
  const message = `no storage driver works under ${textOfBytes(root)}: ${reasons}`;
  return new LamellaError("failed_precondition", "NO_DRIVER", message, { hint });
}

function refused(factories: Factories, error: LamellaError): Choice {
  const reasons = new Map([...factories.keys()].map((name) => [name, `not chosen: ${error.message}`]));
  return { driver: undefined, error, reasons };
}

function unknownDriver(factories: Factories, name: string): LamellaError {
  const names = [...factories.keys()];
  const near = nearest(name, names, 1)[0];
  const known = `known are ${names.join(", ")}`;
  return new LamellaError("invalid_argument", "DRIVER_UNKNOWN", `no storage driver ${JSON.stringify(name)}`, {
    hint: near === undefined ? known : `did you mean ${near}? ${known}`,
  });
}

function severalDrivers(root: ByteString, names: readonly string[]): LamellaError {
  const list = names.join(" and ");
  return new LamellaError("failed_precondition", "SEVERAL_DRIVERS", `${textOfBytes(root)} holds layers of ${list}`, {
    hint: `say which with \`--driver ${names[0]}\`, or bring them together with \`lamella migrate\``,
  });
}
