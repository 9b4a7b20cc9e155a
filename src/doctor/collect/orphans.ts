/**
 * Directories of a driver that nothing refers to. Deleting one that is in use loses data, so whatever is in doubt is not
 * counted: BuildKit's own layers (25 characters of base 36, or an id that stands anywhere in its databases), and directories
 * younger than an hour, which may belong to a pull or build that goes on.
 */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { DockerData } from "../facts.ts";
import type { HostView } from "../host-view.ts";

const youngMs = 60 * 60 * 1000;
/** Files looked at for the size, at most; then the size is a lower bound. */
const maxFiles = 200_000;
const maxExamples = 3;
const buildkitDatabases = ["snapshots.db", "metadata_v2.db", "cache.db", "containerdmeta.db", "history.db"];

interface Question {
  readonly root: string;
  readonly folder: string;
  readonly layers: readonly string[];
  /** By directory name. */
  readonly references: ReadonlyMap<string, string>;
}

/** Their names in the driver's folder. */
export function orphanNames(host: HostView, { root, folder, layers, references }: Question): string[] {
  const candidates = layers.filter((name) => !references.has(name) && isOld(host, `${root}/${folder}/${name}`));
  return withoutBuildkit(host, root, candidates);
}

export function findOrphans(host: HostView, question: Question): DockerData["orphans"] {
  const { root, folder } = question;
  const names = orphanNames(host, question);
  let sizeBytes = 0;
  const budget = { files: maxFiles };
  for (const name of names) sizeBytes += sizeOf(host.at(`${root}/${folder}/${name}`), budget);
  return {
    count: names.length,
    examples: names.slice(0, maxExamples).map((name) => `${folder}/${name}`),
    sizeBytes,
    sizeIsAtLeast: budget.files <= 0,
  };
}

function isOld(host: HostView, path: string): boolean {
  const stat = host.stat(path);
  return stat?.isDirectory() === true && Date.now() - stat.mtimeMs > youngMs;
}

/** Keys of these databases (bbolt) lie in one piece in the file: an id that is not in its bytes is not in use. */
function withoutBuildkit(host: HostView, root: string, names: readonly string[]): string[] {
  // An init layer lives and dies with the layer it is for.
  let left = names.filter((name) => !/^[0-9a-z]{25}(-init)?$/.test(name));
  for (const file of host.names(`${root}/buildkit`) ?? []) {
    if (left.length === 0) break;
    if (!buildkitDatabases.includes(file)) continue;
    const bytes = host.bytes(`${root}/buildkit/${file}`);
    left = bytes === undefined ? [] : left.filter((name) => !bytes.includes(name));
  }
  return left;
}

/** Bytes on disk below a directory, hard links counted once a directory tree. What goes away meanwhile counts nothing. */
function sizeOf(top: string, budget: { files: number }): number {
  const seen = new Set<string>();
  let size = 0;
  const left = [top];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    try {
      for (const entry of readdirSync(at, { withFileTypes: true })) {
        if (--budget.files <= 0) return size;
        const path = join(at, entry.name);
        if (entry.isDirectory()) left.push(path);
        const { dev, ino, nlink, blocks } = lstatSync(path);
        const key = `${dev}:${ino}`;
        if (nlink > 1 && !entry.isDirectory() && seen.has(key)) continue;
        seen.add(key);
        size += blocks * 512;
      }
    } catch {
      // Removed since, or not ours to read: the size is of what can be seen.
    }
  }
  return size;
}
