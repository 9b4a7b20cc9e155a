/**
 * Where a driver says a layer's changes are to be found, as plain data: drivers make these on the main thread, the
 * synchronous loops that read them run in worker threads.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { OverlayXattrPrefix } from "../overlayfs/xattr-names.ts";

export type { OverlayXattrPrefix };

/** The upper directory of an overlay over the directories it was written on. Visits only the upper and moved subtrees. */
export interface UpperSource {
  readonly kind: "upper";
  /** Absolute path of the upper directory. */
  readonly upper: ByteString;
  /** Absolute paths of the lower directories, the uppermost first; empty for a base layer. */
  readonly lowers: readonly ByteString[];
  readonly prefix: OverlayXattrPrefix;
}

/** Two plain trees, compared entry by entry. */
export interface TreesSource {
  readonly kind: "trees";
  /** Absolute path of the parent's tree; undefined for a base layer. */
  readonly parent: ByteString | undefined;
  /** Absolute path of the layer's tree. */
  readonly tree: ByteString;
  /** What is known of how the two came to be; without it, everything is compared. */
  readonly hint?: TreesHint;
}

/** How the changes between two trees are found without comparing everything. */
export type TreesHint = { readonly kind: "none" };

export type DiffSource = UpperSource | TreesSource;

/**
 * Where a layer tar is to be applied. `overlay`: `root` is the layer's own directory, deletions become whiteouts, and what
 * lies below is found in `lowers`. `remove`: `root` is a full copy of the parent's tree, deletions are carried out.
 */
export interface ApplyTarget {
  readonly whiteouts: "overlay" | "remove";
  /** Absolute path of the directory that receives the objects. */
  readonly root: ByteString;
  /** Absolute paths, the uppermost first; empty with `remove`. */
  readonly lowers: readonly ByteString[];
  readonly prefix: OverlayXattrPrefix;
}

/** Where the content of a layer's files is read from: a stack of directories, the layer itself first. */
export interface ContentSource {
  readonly layers: readonly ByteString[];
  readonly prefix: OverlayXattrPrefix;
}
