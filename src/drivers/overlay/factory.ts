/** Makes overlay drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import type { DriverFactory } from "../driver.ts";
import { readOptions } from "../option-values.ts";
import { hostFor, rememberHost } from "../overlay2/host.ts";
import { probeOverlay2 } from "../overlay2/probes.ts";
import { overlayFolders } from "./layout.ts";
import { OverlayDriver } from "./overlay.ts";

export const overlayFactory: DriverFactory = {
  name: "overlay",
  layersFolder: "",
  probe: async (home) => probeOverlay2(home).filter(({ name }) => !unused.includes(name)),
  open: async (home, options) => {
    readOptions("overlay", options);
    const host = hostFor("overlay", home);
    for (const [name, mode] of overlayFolders) makeDirectory(`${home}${name}`, mode);
    rememberHost(home, host);
    return new OverlayDriver(home, host);
  },
};

/** What overlay2 asks for and this driver makes no use of. */
const unused: readonly string[] = ["redirect_dir", "metacopy", "layer_by_layer", "project_quota"];
