/** Makes overlay2 drivers. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import type { DriverFactory } from "../driver.ts";
import { rememberedHost } from "./host.ts";
import { parseOverlay2Options } from "./options.ts";
import { Overlay2Driver } from "./overlay2.ts";
import { probeOverlay2 } from "./probes.ts";

export const overlay2Factory: DriverFactory = {
  name: "overlay2",
  probe: async (home) => probeOverlay2(home),
  open: async (home, options) => {
    for (const [path, mode] of [
      [home, 0o710],
      [`${home}/l`, 0o700],
      [`${home}/.lamella`, 0o700],
      [`${home}/.lamella/mounts`, 0o700],
    ] as const)
      makeDirectory(path, mode);
    const host = rememberedHost(home, `${home}/.lamella/probes.json`);
    if (!host.supportsDType) throw noDType(home);
    return new Overlay2Driver(home, host, parseOverlay2Options(options, host.abilities));
  },
};

function noDType(home: ByteString): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "DRIVER_UNSUPPORTED",
    `overlay2 does not work under ${textOfBytes(home)}: the file system does not tell file types in directories (d_type)`,
    { hint: "make it anew: mkfs.xfs with `-n ftype=1`, or ext4 with the feature `filetype`" },
  );
}
