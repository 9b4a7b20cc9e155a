/** Overlay semantics over a stack of layers. */
import type { ByteString } from "../lib/bytes.ts";
import type { OwnedFd } from "../sys/syscalls.ts";
import type { MergedEntry } from "./layer.ts";

export interface LayerStackView extends Disposable {
  readonly root: MergedEntry;
  /** The object at a path of the merged view; the last component and those before it are never followed through symlinks. */
  lookup(path: ByteString): MergedEntry | undefined;
  lookupIn(directory: MergedEntry, name: ByteString): MergedEntry | undefined;
  /** Names of the merged directory in byte order. */
  list(directory: MergedEntry): readonly ByteString[];
  readlink(entry: MergedEntry): ByteString;
  /** Attributes without overlay's own, escaped ones unescaped, sorted by name. */
  xattrs(entry: MergedEntry): readonly { readonly name: ByteString; readonly value: Buffer }[];
  /** Opens the content of a regular file. */
  open(entry: MergedEntry): OwnedFd;
}
