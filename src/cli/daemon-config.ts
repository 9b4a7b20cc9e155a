/**
 * Docker's configuration file, daemon.json, as far as it says where and how layers are stored:
 *
 *     {"data-root": "/srv/docker", "storage-driver": "btrfs", "storage-opts": ["btrfs.min_space=1G"]}
 *
 * `data-root` is the directory that Docker's own data go to. A store and Docker cannot share one, so Lamella's root is the
 * directory `lamella` in it: on the disk that was meant for images, and in nobody's way (dockerd leaves alone what it does
 * not know). `graph` is the old name of `data-root`. All other keys are for dockerd alone and are named in a note.
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseKeyValue } from "../drivers/option-values.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { type Json, parseJson } from "../oci/json.ts";

export interface DaemonConfig {
  /** Absolute. */
  readonly root: string | undefined;
  readonly driver: string | undefined;
  readonly driverOptions: Readonly<Record<string, string>>;
  /** What of the file was not heeded, a line each. */
  readonly notes: readonly string[];
}

/** Reads a file. Errors: those of reading it, invalid_argument with the file and the line or the key. */
export function readDaemonConfig(path: string): DaemonConfig {
  return parseDaemonConfig(readFileSync(path), path);
}

/** `path` is for the messages. */
export function parseDaemonConfig(bytes: Uint8Array, path: string): DaemonConfig {
  const document = parseJson(bytes, { what: path });
  if (typeof document !== "object" || document === null || Array.isArray(document))
    throw wrong(path, "the file is not a JSON object");
  const members = new Map<string, Json>(Object.entries(document));
  const take = (key: string): string | undefined => {
    const value = members.get(key);
    members.delete(key);
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw wrong(path, `${key} is not a string`);
    return value;
  };
  const dataRoot = take("data-root");
  const graph = take("graph");
  const driver = take("storage-driver");
  const driverOptions = parseOptions(members.get("storage-opts"), path);
  members.delete("storage-opts");
  const notes: string[] = [];
  if (graph !== undefined) notes.push(`${path}: graph is the old name of data-root`);
  if (members.size > 0) notes.push(`${path}: not heeded: ${[...members.keys()].join(", ")}`);
  const directory = dataRoot ?? graph;
  return { root: directory && join(resolve(directory), "lamella"), driver, driverOptions, notes };
}

function parseOptions(value: Json | undefined, path: string): Record<string, string> {
  if (value === undefined) return {};
  if (!Array.isArray(value) || !value.every((one): one is string => typeof one === "string"))
    throw wrong(path, "storage-opts is not a list of strings");
  try {
    return Object.fromEntries(value.map(parseKeyValue));
  } catch (error) {
    throw wrong(path, (error as Error).message);
  }
}

function wrong(path: string, problem: string): LamellaError {
  return new LamellaError("invalid_argument", "DAEMON_CONFIG", `${path}: ${problem}`);
}
