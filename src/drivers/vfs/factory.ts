/** Makes vfs drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import { textOfBytes } from "../../lib/bytes.ts";
import { O_CREAT, O_RDWR } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory, ProbeResult } from "../driver.ts";
import { optionError, readOptions } from "../option-values.ts";
import { treeFolders } from "../tree-driver.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import { noSizeLimit, VfsDriver } from "./vfs.ts";

export const vfsFactory: DriverFactory = {
  name: "vfs",
  layersFolder: "dir",
  probe: async (home) => withTrialDirectory(home, (directory) => [writable(directory), reflink(directory)]),
  open: async (home, options) => {
    const values = readOptions("vfs", options);
    if (values.sizeBytes("size") !== undefined) throw noSizeLimit();
    if (values.text("vfs.xattrs") !== undefined)
      throw optionError("vfs.xattrs: attributes that cannot be kept are always an error here", "leave it out");
    for (const [name, mode] of [...treeFolders, ["/dir", 0o700] as const]) makeDirectory(`${home}${name}`, mode);
    return new VfsDriver(home);
  },
};

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
