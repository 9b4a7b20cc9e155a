/**
 * Flattens layer tars into one tree in memory, by the words of the OCI image specification (layer.md) and nothing else: a
 * second opinion that shares only the tar reader with the code under test. It is strict where an applier is lenient: a path
 * below something that is no directory, or a hard link to nothing, throws.
 */
import { createHash } from "node:crypto";
import type { ByteString } from "../../src/lib/bytes.ts";
import { type TarEntry, TarReader } from "../../src/tar/index.ts";

/** One object; hard links share it. */
interface Node {
  readonly type: TarEntry["type"];
  readonly mode: number;
  readonly owner: string;
  readonly mtimeSec: number;
  readonly device: string;
  readonly target: ByteString;
  readonly xattrs: string;
  readonly content: string;
}

export type FlatTree = ReadonlyMap<ByteString, Node>;

/** The tree that layers (uncompressed tars, the lowest first) make. Keys have no leading or trailing slash. */
export function flatten(layers: readonly Uint8Array[]): FlatTree {
  const tree = new Map<ByteString, Node>();
  for (const layer of layers) applyLayer(tree, readEntries(layer));
  return tree;
}

interface ReadEntry {
  readonly path: ByteString;
  readonly entry: TarEntry;
  readonly content: string;
}

/** The entries of a tar in order, their contents hashed. */
export function readEntries(tar: Uint8Array): ReadEntry[] {
  const entries: ReadEntry[] = [];
  let hash = createHash("sha256");
  const reader = new TarReader({
    entry: () => {
      hash = createHash("sha256");
    },
    data: (bytes) => void hash.update(bytes),
    endEntry: (entry) => {
      const content = entry.type === "file" ? `${entry.size} ${hash.digest("hex").slice(0, 16)}` : "";
      entries.push({ path: clean(entry.name), entry, content });
    },
  });
  reader.push(tar);
  reader.end();
  return entries;
}

function clean(name: ByteString): ByteString {
  return name
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .join("/");
}

function applyLayer(tree: Map<ByteString, Node>, entries: readonly ReadEntry[]): void {
  // Whiteouts concern the layers below only, wherever in the tar they stand.
  for (const { path } of entries) {
    const at = path.lastIndexOf("/") + 1;
    const [directory, name] = [path.slice(0, at), path.slice(at)];
    if (name === ".wh..wh..opq") removeBelow(tree, directory);
    else if (name.startsWith(".wh.") && !name.startsWith(".wh..wh.")) {
      tree.delete(directory + name.slice(4));
      removeBelow(tree, `${directory}${name.slice(4)}/`);
    }
  }
  for (const { path, entry, content } of entries) {
    if (path === "" || path.slice(path.lastIndexOf("/") + 1).startsWith(".wh.")) continue;
    const parent = path.slice(0, Math.max(0, path.lastIndexOf("/")));
    if (parent !== "" && tree.get(parent)?.type !== "directory")
      throw new Error(`layer entry ${path}: ${parent} is no directory of the tree`);
    if (entry.type !== "directory") removeBelow(tree, `${path}/`);
    if (entry.type !== "hardlink") {
      tree.set(path, nodeOf(entry, content));
      continue;
    }
    const linked = tree.get(clean(entry.linkName));
    if (linked === undefined || linked.type === "directory")
      throw new Error(`layer entry ${path}: hard link to ${entry.linkName}, which is no file of the tree`);
    tree.set(path, linked);
  }
}

function removeBelow(tree: Map<ByteString, Node>, prefix: ByteString): void {
  for (const path of tree.keys()) if (path.startsWith(prefix)) tree.delete(path);
}

function nodeOf(entry: TarEntry, content: string): Node {
  const xattrs = [...entry.xattrs].map(([name, value]) => `${name}=${value.toString("hex")}`).sort();
  return {
    type: entry.type,
    mode: entry.mode & 0o7777,
    owner: `${entry.uid}:${entry.gid}`,
    mtimeSec: entry.mtimeSec,
    device: entry.type === "char" || entry.type === "block" ? `${entry.devMajor}:${entry.devMinor}` : "",
    target: entry.type === "symlink" ? entry.linkName : "",
    xattrs: xattrs.join(","),
    content,
  };
}

export interface CompareOptions {
  /** Seconds since 1970; later times are the builds' own and count as equal to each other. */
  readonly recentSec?: number | undefined;
  /** Differences known beforehand: matching lines are left out. */
  readonly except?: RegExp | undefined;
}

/** What differs between two trees, a line each, hard-link groups included; empty when they are equal. */
export function treeDifferences(left: FlatTree, right: FlatTree, options: CompareOptions = {}): string[] {
  const found: string[] = [];
  for (const path of new Set([...left.keys(), ...right.keys()])) {
    const [a, b] = [left, right].map((tree) => line(tree.get(path), options.recentSec ?? Number.POSITIVE_INFINITY));
    if (a !== b) found.push(`${path}: ${a} | ${b}`);
  }
  const [a, b] = [left, right].map(linkGroups);
  for (const group of new Set([...(a ?? []), ...(b ?? [])])) {
    if (!a?.has(group)) found.push(`hard links only on the right: ${group}`);
    if (!b?.has(group)) found.push(`hard links only on the left: ${group}`);
  }
  return found.filter((text) => options.except?.test(text) !== true).sort();
}

function line(node: Node | undefined, recentSec: number): string {
  if (node === undefined) return "missing";
  const mtime = node.mtimeSec >= recentSec ? "recent" : String(node.mtimeSec);
  const { type, mode, owner, device, target, xattrs, content } = node;
  return [type, mode.toString(8), owner, mtime, device, target, xattrs, content]
    .filter((part) => part !== "")
    .join(" ");
}

function linkGroups(tree: FlatTree): Set<string> {
  const paths = new Map<Node, ByteString[]>();
  for (const [path, node] of tree) {
    if (node.type !== "directory") paths.set(node, [...(paths.get(node) ?? []), path]);
  }
  return new Set([...paths.values()].filter((group) => group.length > 1).map((group) => group.sort().join(" = ")));
}
