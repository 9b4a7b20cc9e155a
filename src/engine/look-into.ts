/**
 * Reads an image's or container's tree from its layers, nothing mounted. Symbolic links are followed inside the tree and
 * never out of it, as a process that has it as its root would.
 */
import type { ContentSource } from "../diff/source.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../lib/bytes.ts";
import { LayerStack, type MergedEntry } from "../overlayfs/layer-stack.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "../sys/constants.ts";
import { read } from "../sys/syscalls.ts";

export type FileType = "file" | "directory" | "symlink" | "block" | "character" | "fifo" | "socket";

/** One object of a tree. */
export interface FileEntry {
  /** Absolute path in the tree, as text; bytes that are no UTF-8 are shown as U+FFFD. */
  readonly path: string;
  readonly type: FileType;
  /** Permission bits with set-user-ID, set-group-ID and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Seconds since 1970, with a fraction. */
  readonly mtimeSec: number;
  readonly nlink: number;
  readonly linkTarget: string | undefined;
  /** `major:minor` of a device. */
  readonly device: string | undefined;
}

const fileTypes: Readonly<Record<number, FileType>> = {
  [S_IFREG]: "file",
  [S_IFDIR]: "directory",
  [S_IFLNK]: "symlink",
  [S_IFBLK]: "block",
  [S_IFCHR]: "character",
  [S_IFIFO]: "fifo",
  [S_IFSOCK]: "socket",
};

/** As many links as the kernel follows in one path. */
const maxLinks = 40;
const chunkBytes = 256 * 1024;

/** Opens the merged view of a layer's content. An image without layers has an empty one. */
export function openTree(source: ContentSource): LayerStack {
  return LayerStack.open(source.layers, source);
}

/** What lies at `path`, links followed, the last one too. Errors: not_found, invalid_argument (ELOOP). */
export function resolveInTree(tree: LayerStack, path: string): MergedEntry {
  const above: MergedEntry[] = [];
  let at = tree.root;
  let rest = bytesOfText(path).split("/");
  for (let links = 0; rest.length > 0; ) {
    const [name = "", ...others] = rest;
    rest = others;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      at = above.pop() ?? tree.root;
      continue;
    }
    const child = isType(at, S_IFDIR) ? tree.lookupIn(at, name) : undefined;
    if (child === undefined) throw notFound(path);
    if (isType(child, S_IFLNK)) {
      if (++links > maxLinks) {
        throw new LamellaError("invalid_argument", "ELOOP", `${path}: too many levels of symbolic links`);
      }
      const target = tree.readlink(child);
      rest = [...target.split("/"), ...rest];
      if (target.startsWith("/")) {
        above.length = 0;
        at = tree.root;
      }
      continue;
    }
    above.push(at);
    at = child;
  }
  return at;
}

/** The entries of a directory in byte order, or the object itself when it is none; with `recursive` all below it. */
export function* listTree(
  tree: LayerStack,
  path: string,
  options: { readonly recursive?: boolean | undefined; readonly signal?: AbortSignal | undefined } = {},
): Generator<FileEntry> {
  const start = resolveInTree(tree, path);
  if (!isType(start, S_IFDIR)) yield describe(tree, start);
  else yield* below(tree, start, options.recursive ?? false);
}

function* below(tree: LayerStack, directory: MergedEntry, recursive: boolean): Generator<FileEntry> {
  for (const name of tree.list(directory)) {
    const entry = tree.lookupIn(directory, name);
    if (entry === undefined) continue;
    yield describe(tree, entry);
    if (recursive && isType(entry, S_IFDIR)) yield* below(tree, entry, recursive);
  }
}

/** The content of a regular file. Errors: not_found, failed_precondition for what is no regular file. */
export function* readFromTree(tree: LayerStack, path: string): Generator<Uint8Array> {
  const entry = resolveInTree(tree, path);
  if (!isType(entry, S_IFREG)) {
    const type = fileTypes[entry.stat.mode & S_IFMT] ?? "object of unknown type";
    throw new LamellaError("failed_precondition", "NOT_A_FILE", `${path} is a ${type}, not a file`, {
      hint: type === "directory" ? "list it with `lamella ls`" : undefined,
    });
  }
  using file = tree.open(entry);
  for (;;) {
    const chunk = Buffer.allocUnsafe(chunkBytes);
    const length = read(file.fd, chunk);
    if (length === 0) return;
    yield chunk.subarray(0, length);
  }
}

function isType(entry: MergedEntry, type: number): boolean {
  return (entry.stat.mode & S_IFMT) === type;
}

function describe(tree: LayerStack, entry: MergedEntry): FileEntry {
  const { stat } = entry;
  const type = fileTypes[stat.mode & S_IFMT] ?? "file";
  return {
    path: `/${textOfBytes(entry.path)}`,
    type,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    sizeBytes: stat.size,
    mtimeSec: stat.mtimeSec + stat.mtimeNsec / 1e9,
    nlink: stat.nlink,
    linkTarget: type === "symlink" ? textOfBytes(tree.readlink(entry)) : undefined,
    device: type === "block" || type === "character" ? `${stat.rdevMajor}:${stat.rdevMinor}` : undefined,
  };
}

function notFound(path: ByteString): LamellaError {
  return new LamellaError("not_found", "NO_SUCH_FILE", `${path}: no such file or directory`);
}
