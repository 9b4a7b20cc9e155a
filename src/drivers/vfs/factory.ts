/** Makes vfs drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import { ProjectQuota, whyNoProjectQuota } from "../../fs/project-quota.ts";
import { textOfBytes } from "../../lib/bytes.ts";
import { O_CREAT, O_RDWR } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory, ProbeResult } from "../driver.ts";
import { optionError, readOptions } from "../option-values.ts";
import { treeFolders } from "../tree-driver.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import { noQuota, VfsDriver, type VfsOptions } from "./vfs.ts";

export const vfsFactory: DriverFactory = {
  name: "vfs",
  layersFolder: "dir",
  probe: async (home) =>
    withTrialDirectory(home, (directory) => [writable(directory), reflink(directory), projectQuota(directory)]),
  open: async (home, options) => {
    const parsed = parseVfsOptions(options);
    for (const [name, mode] of treeFolders) makeDirectory(`${home}${name}`, mode);
    for (const name of ["dir", "manifests"]) makeDirectory(`${home}/${name}`, 0o700);
    const quota = ProjectQuota.open(home, `${home}/.lamella/quota-lock`);
    if (parsed.sizeBytes !== undefined && typeof quota === "string") throw noQuota(quota);
    return new VfsDriver(home, parsed, quota);
  },
};

/** Errors: invalid_argument. */
function parseVfsOptions(given: Readonly<Record<string, string>>): VfsOptions {
  const options = readOptions("vfs", given);
  const xattrs = options.text("vfs.xattrs");
  if (xattrs !== undefined && xattrs !== "i_want_broken_containers")
    throw optionError("do not set the vfs.xattrs option unless you are willing to accept the consequences");
  return { sizeBytes: options.sizeBytes("size"), bestEffortXattrs: xattrs !== undefined };
}

function writable(directory: string): ProbeResult {
  return { name: "directory", ok: true, reason: `${textOfBytes(directory)} could be made`, required: true };
}

function reflink(directory: string): ProbeResult {
  using from = sys.open(`${directory}/from`, O_RDWR | O_CREAT, 0o600);
  sys.writeAll(from.fd, Buffer.alloc(65536, 1));
  using to = sys.open(`${directory}/to`, O_RDWR | O_CREAT, 0o600);
  const r = raw.ficlone(to.fd, from.fd);
  if (r >= 0) return { name: "reflink", ok: true, reason: "files can share their data (FICLONE)", required: false };
  const reason = `FICLONE gave errno ${-r}: each layer copies the data of its parent`;
  const remedy = "put the root on xfs (reflink=1) or btrfs, or use overlay2";
  return { name: "reflink", ok: false, reason, remedy, required: false };
}

function projectQuota(directory: string): ProbeResult {
  const name = "project_quota";
  const reason = whyNoProjectQuota(directory);
  if (reason === undefined)
    return { name, ok: true, reason: "layers can have a size limit (project quotas)", required: false };
  const remedy =
    "put the root on xfs mounted with `pquota`, or ext4 with `prjquota`; without it layers have no size limit";
  return { name, ok: false, reason, remedy, required: false };
}
