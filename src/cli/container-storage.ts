/** `--storage-opt` of `create` and `run`: what Docker lets one say of a container's own layer. */
import type { Command } from "commander";
import { parseSize } from "../drivers/option-values.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { collectOption } from "./global-options.ts";

export function addStorageOption(command: Command): Command {
  const about = "size=10G: limit of the container's layer, on drivers with quotas; 0 for none";
  return command.option("--storage-opt <key=value>", about, collectOption);
}

/** The limit in bytes; undefined when nothing is said. Errors: invalid_argument. */
export function sizeOf(options: Readonly<Record<string, string>> = {}): number | undefined {
  let sizeBytes: number | undefined;
  for (const [key, value] of Object.entries(options)) {
    if (key.toLowerCase() !== "size") {
      const hint = key.includes(".")
        ? `options of the driver go before the command's name: lamella --storage-opt ${key}=${value} ...`
        : "the one option of a container is size";
      throw new LamellaError("invalid_argument", "STORAGE_OPT", `Unknown option ${key}`, { hint });
    }
    sizeBytes = parseSize(value);
    if (sizeBytes !== undefined) continue;
    throw new LamellaError("invalid_argument", "STORAGE_OPT", `invalid size: '${value}'`, {
      hint: "write it as 10G or 512mb",
    });
  }
  return sizeBytes;
}
