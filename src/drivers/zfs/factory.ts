/** Makes zfs drivers. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { findProgram } from "../../fs/find-program.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import type { DriverFactory } from "../driver.ts";
import { unsupported } from "../layer-errors.ts";
import { isLayerId } from "../layer-id.ts";
import { LayerRecords } from "../layer-records.ts";
import { readOptions } from "../option-values.ts";
import { treeFolders } from "../tree-driver.ts";
import { Datasets } from "./datasets.ts";
import { moveZfsHome, rememberedHost, rememberHost, type ZfsHome, zfsHome } from "./home.ts";
import { datasetOf } from "./parent-dataset.ts";
import { examine } from "./probes.ts";
import { Programs } from "./programs.ts";
import type { ZfsHost } from "./trial.ts";
import { ZfsDriver } from "./zfs.ts";

export const zfsFactory: DriverFactory = {
  name: "zfs",
  layersFolder: "layers",
  probe: async (home) => (await examine(home, undefined)).results,
  open: async (home, options) => {
    const fsname = readOptions("zfs", options).text("zfs.fsname");
    if (bytesOfText(textOfBytes(home)) !== home)
      throw unsupported("zfs", home, "the path is not UTF-8", "give the root another name");
    const remembered = rememberedHost(home, fsname ?? datasetOf(home));
    const host = remembered ?? (await examined(home, fsname));
    for (const [name, mode] of [...treeFolders, ["/graph", 0o700] as const]) makeDirectory(`${home}${name}`, mode);
    if (remembered === undefined) rememberHost(home, host);
    const programs = new Programs(findProgram("zfs") ?? "zfs", findProgram("zpool") ?? "zpool");
    const known = zfsHome(home, host.parent);
    const datasets = new Datasets({ ...host, programs, homeHex: known.home });
    if (known.parent !== host.parent) await followParent(home, { known, host, datasets });
    return new ZfsDriver(home, { programs, host, datasets });
  },
};

async function examined(home: ByteString, fsname: string | undefined): Promise<ZfsHost> {
  const { results, host } = await examine(home, fsname);
  if (host !== undefined) return host;
  const refusal = results.find(({ ok, required }) => required && !ok);
  throw unsupported("zfs", home, refusal?.reason ?? "", refusal?.remedy ?? "");
}

interface Moved {
  readonly known: ZfsHome;
  readonly host: ZfsHost;
  readonly datasets: Datasets;
}

/** The home was used with another parent dataset: either that has been renamed, or a wrong one was named now. */
async function followParent(home: ByteString, { known, host, datasets }: Moved): Promise<void> {
  const some = new LayerRecords(`${home}/layers`).names().find(isLayerId);
  if (some !== undefined && (await datasets.creationOf(some)) === undefined)
    throw new LamellaError(
      "failed_precondition",
      "ZFS_PARENT",
      `the layers of ${textOfBytes(home)} are datasets below ${known.parent}, not below ${host.parent}`,
      { hint: `leave zfs.fsname out, or say zfs.fsname=${known.parent}` },
    );
  moveZfsHome(home, known, host.parent);
}
