/** The words that start our own program (src/cli/lamella-overlay.ts), from wherever. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

export function ownCommand(): readonly [string, ...string[]] {
  const at = (place: string): string => fileURLToPath(new URL(place, import.meta.url));
  const isCompiled = import.meta.url.endsWith(".js");
  const compiled = at(isCompiled ? "../../../cli/lamella-overlay.js" : "../../../dist/cli/lamella-overlay.js");
  // Run from the sources, all the same the one that starts quickly, if `npm run build` has made it.
  const path = isCompiled || existsSync(compiled) ? compiled : at("../../cli/lamella-overlay.ts");
  // It is started elsewhere than this process was.
  const nodeOptions =
    path === compiled ? [] : process.execArgv.map((word) => (word.startsWith("./") ? resolve(word) : word));
  return [process.execPath, ...nodeOptions, path];
}
