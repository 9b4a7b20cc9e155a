/** Which drivers there are, and opening the one of a root. */
import type { ByteString } from "../lib/bytes.ts";
import { aufsFactory } from "./aufs/factory.ts";
import { btrfsFactory } from "./btrfs/factory.ts";
import { chooseDriver, type DriverWish } from "./choose-driver.ts";
import { devicemapperFactory } from "./devicemapper/factory.ts";
import type { Driver, DriverFactory, ProbeResult } from "./driver.ts";
import { fuseOverlayFactory } from "./fuse-overlay/factory.ts";
import { overlayFactory } from "./overlay/factory.ts";
import { overlay2Factory } from "./overlay2/factory.ts";
import { vfsFactory } from "./vfs/factory.ts";
import { zfsFactory } from "./zfs/factory.ts";

/** All drivers by name. */
export const driverFactories: ReadonlyMap<string, DriverFactory> = new Map(
  [
    overlay2Factory,
    btrfsFactory,
    zfsFactory,
    fuseOverlayFactory,
    overlayFactory,
    aufsFactory,
    devicemapperFactory,
    vfsFactory,
  ].map((factory) => [factory.name, factory]),
);

/** Opens the driver of a root, see ./choose-driver.ts. Errors: those of `Choice.error`. */
export async function openDriver(wish: DriverWish): Promise<Driver> {
  const { driver, error } = await chooseDriver(driverFactories, wish);
  if (driver === undefined) throw error;
  return driver;
}

/** What `lamella info --why` tells of a driver. */
export interface DriverReport {
  readonly name: string;
  readonly chosen: boolean;
  /** Why it was chosen or was not. */
  readonly reason: string;
  readonly probes: readonly ProbeResult[];
}

/** Every driver's report, in the order in which they are registered. */
export async function explainDrivers(wish: DriverWish): Promise<readonly DriverReport[]> {
  const probes = await probeAll(wish.root);
  const { driver, reasons } = await chooseDriver(driverFactories, wish);
  return [...driverFactories.keys()].map((name) => ({
    name,
    chosen: driver?.name === name,
    reason: reasons.get(name) ?? "",
    probes: probes.get(name) ?? [],
  }));
}

/** Every driver's probes for a root. */
export async function probeAll(root: ByteString): Promise<ReadonlyMap<string, readonly ProbeResult[]>> {
  const results = new Map<string, readonly ProbeResult[]>();
  for (const [name, factory] of driverFactories) results.set(name, await factory.probe(`${root}/${name}`));
  return results;
}
