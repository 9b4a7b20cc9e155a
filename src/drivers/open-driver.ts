/** Which drivers there are, and which one a root gets. */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { Driver, DriverFactory, ProbeResult } from "./driver.ts";
import { overlay2Factory } from "./overlay2/factory.ts";
import { vfsFactory } from "./vfs/factory.ts";

/** All drivers by name, those that may be chosen unasked first. */
export const driverFactories: ReadonlyMap<string, DriverFactory> = new Map(
  [overlay2Factory, vfsFactory].map((factory) => [factory.name, factory]),
);

/** Drivers a root gets without being asked for: vfs is not among them, as its cost would surprise. */
const unasked: readonly DriverFactory[] = [overlay2Factory];

export interface OpenDriverOptions {
  /** Absolute path of the directory below which each driver has its home, `<root>/<name>`. It exists. */
  readonly root: ByteString;
  /** The driver wanted; when not given, the one that has data under the root, else one that works here. */
  readonly name?: string | undefined;
  readonly options?: Readonly<Record<string, string>> | undefined;
}

/**
 * Opens the driver of a root.
 * Errors: invalid_argument for an unknown driver or option, failed_precondition when none (or not the one asked for) works
 * here, with every reason; also when the root holds layers of another driver than the one asked for.
 */
export async function openDriver({ root, name, options = {} }: OpenDriverOptions): Promise<Driver> {
  const inUse = [...driverFactories.keys()].filter((known) => hasLayers(root, known));
  if (name !== undefined) {
    const factory = driverFactories.get(name);
    if (factory === undefined)
      throw new LamellaError("invalid_argument", "DRIVER_UNKNOWN", `no storage driver ${name}`, {
        hint: `known are ${[...driverFactories.keys()].join(", ")}`,
      });
    if (inUse.length > 0 && !inUse.includes(name))
      throw new LamellaError(
        "failed_precondition",
        "DRIVER_MISMATCH",
        `${textOfBytes(root)} holds layers of the driver ${inUse.join(" and ")}`,
        { hint: `leave out --driver ${name}, or use another --root` },
      );
    return factory.open(`${root}/${name}`, options);
  }
  const candidates = inUse.length > 0 ? inUse.map((known) => driverFactories.get(known)) : unasked;
  const refusals: LamellaError[] = [];
  for (const factory of candidates) {
    if (factory === undefined) continue;
    try {
      return await factory.open(`${root}/${factory.name}`, options);
    } catch (error) {
      if (!(error instanceof LamellaError) || error.kind === "invalid_argument") throw error;
      refusals.push(error);
    }
  }
  throw new LamellaError(
    "failed_precondition",
    "NO_DRIVER",
    `no storage driver works under ${textOfBytes(root)}: ${refusals.map((error) => error.message).join("; ")}`,
    { hint: refusals.map((error) => error.hint).find((hint) => hint !== undefined) },
  );
}

/** Every driver's probes for a root. */
export async function probeAll(root: ByteString): Promise<ReadonlyMap<string, readonly ProbeResult[]>> {
  const results = new Map<string, readonly ProbeResult[]>();
  for (const [name, factory] of driverFactories) results.set(name, await factory.probe(`${root}/${name}`));
  return results;
}

function hasLayers(root: ByteString, name: string): boolean {
  const folder = driverFactories.get(name)?.layersFolder ?? "";
  const fd = raw.openat(AT_FDCWD, `${root}/${name}/${folder}`, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return false;
  using directory = new sys.OwnedFd(fd);
  return sys.readdir(directory.fd).some((entry) => /^[0-9a-f]{64}$/.test(entry.name));
}
