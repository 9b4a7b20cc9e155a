/** The host's defaults for overlay mounts: /sys/module/overlay/parameters. They decide nothing here, but for other engines. */
import { readdirSync, readFileSync } from "node:fs";

const directory = "/sys/module/overlay/parameters";

/** Name and value of each parameter, sorted by name; empty when the module is not loaded. */
export function moduleParameters(): (readonly [string, string])[] {
  try {
    return readdirSync(directory)
      .sort()
      .map((name) => [name, readFileSync(`${directory}/${name}`, "utf8").trim()] as const);
  } catch {
    return [];
  }
}
