/** Makes overlay2 drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import type { DriverFactory } from "../driver.ts";
import { hostFor, rememberHost } from "./host.ts";
import { linkedFolders } from "./layout.ts";
import { parseOverlay2Options } from "./options.ts";
import { Overlay2Driver } from "./overlay2.ts";
import { probeOverlay2 } from "./probes.ts";
import { Overlay2Quota } from "./quota.ts";

export const overlay2Factory: DriverFactory = {
  name: "overlay2",
  layersFolder: "",
  probe: async (home) => probeOverlay2(home),
  open: async (home, options) => {
    const host = hostFor("overlay2", home);
    const parsed = parseOverlay2Options(options, host.abilities);
    for (const [name, mode] of linkedFolders) makeDirectory(`${home}${name}`, mode);
    rememberHost(home, host);
    const quota = new Overlay2Quota(home);
    const refusal = parsed.sizeBytes === undefined ? undefined : quota.optionError(host.backingFileSystem);
    if (refusal !== undefined) throw refusal;
    return new Overlay2Driver({ home, host, options: parsed, quota });
  },
};
