/** Changes the storage driver in a daemon.json, with order and indentation as they were. */
import { LamellaError } from "../../errors/lamella-error.ts";

/** Options of a storage driver by their prefix: another driver does not start with them. */
const optionsOf: Readonly<Record<string, string>> = {
  devicemapper: "dm.",
  zfs: "zfs.",
  btrfs: "btrfs.",
  vfs: "vfs.",
  overlay2: "overlay2.",
};

/**
 * The text with the driver named in it; options of other drivers go. `text`: undefined for a file that is not there.
 * Errors: failed_precondition when it is not JSON.
 */
export function withDriver(text: string | undefined, driver: string, path: string): string {
  const settings = parse(text, path);
  settings["storage-driver"] = driver;
  const options: unknown = settings["storage-opts"];
  if (Array.isArray(options)) {
    const own = optionsOf[driver] ?? `${driver}.`;
    const kept = options.filter((one) => typeof one === "string" && one.startsWith(own));
    if (kept.length > 0) settings["storage-opts"] = kept;
    else delete settings["storage-opts"];
  }
  const indent = /^\{\s*\n([ \t]+)"/.exec(text ?? "")?.[1] ?? 2;
  return `${JSON.stringify(settings, undefined, indent)}\n`;
}

function parse(text: string | undefined, path: string): Record<string, unknown> {
  if (text === undefined || text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Told below.
  }
  throw new LamellaError("failed_precondition", "NOT_JSON", `${path} is not a JSON object`, {
    hint: "put it right first: dockerd does not start with it either",
  });
}
