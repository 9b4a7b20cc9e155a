/** Makes btrfs drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import { O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory } from "../driver.ts";
import { unsupported } from "../layer-errors.ts";
import { readOptions } from "../option-values.ts";
import { treeFolders } from "../tree-driver.ts";
import { BtrfsDriver } from "./btrfs.ts";
import { lackOfPrivilege, probeBtrfs, probeFileSystem } from "./probes.ts";
import { turnQuotaOn } from "./quota.ts";

const folders = [...treeFolders, ["/subvolumes", 0o710], ["/quotas", 0o700]] as const;

export const btrfsFactory: DriverFactory = {
  name: "btrfs",
  layersFolder: "subvolumes",
  probe: probeBtrfs,
  open: async (home, options) => {
    const minSpaceBytes = readOptions("btrfs", options).sizeBytes("btrfs.min_space");
    const { ok, reason, remedy } = probeFileSystem(home);
    if (!ok) throw unsupported("btrfs", home, reason, remedy ?? "");
    for (const [name, mode] of folders) makeDirectory(`${home}${name}`, mode);
    if (minSpaceBytes !== undefined) {
      using directory = sys.open(home, O_RDONLY | O_DIRECTORY);
      await turnQuotaOn(directory.fd);
    }
    return new BtrfsDriver(home, { minSpaceBytes, unprivileged: lackOfPrivilege(home) });
  },
};
