/** What `info` shows. The store's metadata is not opened for it: the driver and the host tell all of it. */
import { resolve } from "node:path";
import type { DriverWish } from "../drivers/choose-driver.ts";
import { type DriverReport, explainDrivers, openDriver } from "../drivers/open-driver.ts";
import { makeDirectories } from "../fs/make-directories.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { hostFacts } from "./host.ts";
import type { EngineInfo, InfoOptions } from "./options.ts";

/**
 * Opens the driver of a root (the root is made when it is not there) and answers with its status and the host's facts.
 * Errors: as Engine.open.
 */
export async function engineInfo(options: InfoOptions): Promise<EngineInfo> {
  const { root, wish } = prepare(options);
  const driver = await openDriver(wish);
  return { root, driver: driver.name, status: driver.status(), details: driver.details(), host: hostFacts() };
}

/** Every driver's probes for a root, and why it is the one in use there or is not. Answers also where none can be used. */
export async function driverReports(options: InfoOptions): Promise<readonly DriverReport[]> {
  return explainDrivers(prepare(options).wish);
}

function prepare({ root, driver, driverOptions }: InfoOptions): { readonly root: string; readonly wish: DriverWish } {
  const path = resolve(root);
  makeDirectories(path, 0o711);
  return { root: path, wish: { root: bytesOfText(path), name: driver, options: driverOptions } };
}
