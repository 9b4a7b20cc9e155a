/**
 * Files of layers that a power cut emptied. Docker writes a layer's files without flushing them, then lists the layer; cut in
 * between, the layer is listed and some of its files have no bytes. Which of them had some stands in the layer's tar-split
 * record, that Docker keeps to give out the very same tar again:
 *
 *     image/overlay2/layerdb/sha256/<chain ID>/tar-split.json.gz    {"type":1,"name":"usr/lib/libc.so.6","size":1926232,...}
 *
 * Programs and shared libraries only are looked at, as nobody has empty ones on purpose, and the record is asked about those that are.
 */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { HostView } from "../host-view.ts";

/** Names looked at in all, at most. */
const maxNames = 400_000;
const maxRecordBytes = 512 * 1024 * 1024;
const programs = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];
const libraries = ["lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib"];

export interface RecordedLayer {
  /** Path of the layer's files. */
  readonly files: string;
  /** Path of its directory in the layer store. */
  readonly chain: string;
}

/** Paths of files that are empty and should not be, with their right sizes. */
export function hollowFiles(host: HostView, layers: readonly RecordedLayer[]): string[] {
  const budget = { names: maxNames };
  return layers.flatMap(({ files, chain }) => {
    const suspects = emptyFiles(host, files, budget);
    if (suspects.length === 0) return [];
    const sizes = recordedSizes(host, `${chain}/tar-split.json.gz`, new Set(suspects));
    return suspects.flatMap((name) => {
      const size = sizes.get(name) ?? 0;
      return size > 0 ? [`${files}/${name} is empty, and had ${size} bytes`] : [];
    });
  });
}

function emptyFiles(host: HostView, top: string, budget: { names: number }): string[] {
  const isProgram = (mode: number): boolean => (mode & 0o111) !== 0;
  const isLibrary = (name: string): boolean => /\.so(\.[0-9]+)*$/.test(name);
  const found = programs.flatMap((folder) => empty(host, top, folder, budget).filter(({ mode }) => isProgram(mode)));
  for (const folder of libraries) {
    const below = directoriesIn(host, `${top}/${folder}`).filter((name) => /-linux-/.test(name));
    for (const one of [folder, ...below.map((name) => `${folder}/${name}`)])
      found.push(...empty(host, top, one, budget).filter(({ name }) => isLibrary(name)));
  }
  return found.map(({ name }) => name);
}

interface EmptyFile {
  /** Below the layer's root. */
  readonly name: string;
  readonly mode: number;
}

/** Regular files without a byte. Links are not followed: `lib` is one in most images of today, and below it is another's. */
function empty(host: HostView, top: string, folder: string, budget: { names: number }): EmptyFile[] {
  const found: EmptyFile[] = [];
  if (hasLink(host, top, folder)) return found;
  for (const entry of entriesIn(host, `${top}/${folder}`)) {
    if (--budget.names < 0) break;
    if (!entry.isFile()) continue;
    const name = `${folder}/${entry.name}`;
    const stat = statSync(host.at(join(top, name)), { throwIfNoEntry: false });
    if (stat?.isFile() && stat.size === 0) found.push({ name, mode: stat.mode });
  }
  return found;
}

/** True when a component of the folder is a symbolic link in the layer. */
function hasLink(host: HostView, top: string, folder: string): boolean {
  const parts = folder.split("/");
  return parts.some((_, i) => host.link(`${top}/${parts.slice(0, i + 1).join("/")}`) !== undefined);
}

function directoriesIn(host: HostView, path: string): string[] {
  return entriesIn(host, path)
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}

function entriesIn(host: HostView, path: string) {
  try {
    return readdirSync(host.at(path), { withFileTypes: true });
  } catch {
    // Not in this layer, or not for us to read: nothing is said of it.
    return [];
  }
}

/** Sizes by name, of the wanted names. Empty when there is no record that can be read. */
function recordedSizes(host: HostView, path: string, wanted: ReadonlySet<string>): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>();
  const packed = host.bytes(path);
  if (packed === undefined) return sizes;
  try {
    for (const line of gunzipSync(packed, { maxOutputLength: maxRecordBytes }).toString("utf8").split("\n")) {
      if (line === "") continue;
      const { type, name = "", size = 0 } = JSON.parse(line) as { type?: number; name?: string; size?: number };
      const plain = name.replace(/^\.?\/+/, "");
      if (type === 1 && wanted.has(plain)) sizes.set(plain, size);
    }
  } catch {
    host.missed(path, "it is damaged");
  }
  return sizes;
}
