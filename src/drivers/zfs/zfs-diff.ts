/**
 * What `zfs diff -FH` prints (zfs-diff(8), lib/libzfs/libzfs_diff.c): a line each object that changed, fields with tabs between.
 *
 *     M  /  /mnt/etc                   modified; `/` a directory, `F` a file, `@ | C B =` what `ls -F` has them for
 *     +  F  /mnt/etc/new               made
 *     -  F  /mnt/etc/old               gone
 *     R  /  /mnt/a  /mnt/b             renamed or moved
 *     M  F  /mnt/etc/linked  (+1)      its number of names changed by so many
 *
 * Bytes that do not print, spaces and backslashes are written `\0ooo`. What belongs to an object's attributes has a path with
 * `/<xattrdir>` in it. One name is printed for an object, however many it has; so where objects with several names are
 * concerned, this says too little.
 */
import type { CandidatesHint } from "../../diff/source.ts";
import type { ByteString } from "../../lib/bytes.ts";

export interface ZfsDiff {
  readonly hint: CandidatesHint;
  /** Paths of what is not a directory: whether it has several names, in either tree, is to be looked up. */
  readonly files: readonly ByteString[];
}

/** Reads the diff of a dataset mounted at `mountPoint`. Undefined when it cannot tell what changed. */
export function parseZfsDiff(text: string, mountPoint: ByteString): ZfsDiff | undefined {
  const paths = new Set<ByteString>();
  const subtrees = new Set<ByteString>();
  const files = new Set<ByteString>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [change = "", type = "", ...rest] = line.split("\t");
    const names = rest.filter((field) => field !== "->").map((field) => relativePath(field, mountPoint));
    const wanted = change === "R" ? 2 : 1;
    if (!/^[-+MR]$/.test(change) || !/^[BC/>|@P=F]$/.test(type) || names.length !== wanted) return undefined;
    for (const name of names) {
      if (name === undefined) return undefined;
      // A directory may be moved away, and another one made in its place.
      (change === "R" && type === "/" ? subtrees : paths).add(name);
      if (type !== "/") files.add(name);
    }
  }
  return { hint: { kind: "candidates", paths: [...paths], subtrees: [...subtrees] }, files: [...files] };
}

function relativePath(field: string, mountPoint: ByteString): ByteString | undefined {
  const path = unescaped(field)?.replace(/\/<xattrdir>(?:\/.*)?$/s, "");
  if (path === undefined) return undefined;
  if (path === mountPoint || path === `${mountPoint}/`) return "";
  return path.startsWith(`${mountPoint}/`) ? path.slice(mountPoint.length + 1) : undefined;
}

/** Undefined for what is not printed like that: a backslash by itself would have been `\\0134`. */
function unescaped(field: string): ByteString | undefined {
  const octalEscape = /\\0([0-3][0-7]{2})/g;
  if (field.replace(octalEscape, "").includes("\\")) return undefined;
  return field.replace(octalEscape, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
