/** The version of this package. */
import { readFileSync } from "node:fs";

/** `version` of package.json, which lies two folders above this file, or three when it is compiled into `dist`. */
export function versionOfPackage(): string {
  for (const up of ["../../package.json", "../../../package.json"]) {
    try {
      const { version } = JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8")) as { version: string };
      return version;
    } catch {
      // Not here: the other one.
    }
  }
  return "unknown";
}
