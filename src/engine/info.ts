/** What `info` shows. The store's metadata is not opened for it: the driver and the host tell all of it. */
import { resolve } from "node:path";
import { openDriver, probeAll } from "../drivers/open-driver.ts";
import { makeDirectories } from "../fs/make-directories.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { hostFacts } from "./host.ts";
import type { EngineInfo, InfoOptions } from "./options.ts";

/**
 * Opens the driver of a root (the root is made when it is not there) and answers with its status and the host's facts.
 * Errors: as Engine.open.
 */
export async function engineInfo(options: InfoOptions): Promise<EngineInfo> {
  const root = resolve(options.root);
  makeDirectories(root, 0o711);
  const home = bytesOfText(root);
  const probes = options.probes ? Object.fromEntries(await probeAll(home)) : undefined;
  const driver = await openDriver({ root: home, name: options.driver, options: options.driverOptions ?? {} });
  return { root, driver: driver.name, status: driver.status(), details: driver.details(), host: hostFacts(), probes };
}
