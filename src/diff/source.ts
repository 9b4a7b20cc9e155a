/**
 * Where a driver says a layer's changes are to be found, as plain data: drivers make these on the main thread, the
 * synchronous loops that read them run in worker threads.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { LayerMarks } from "../overlayfs/layer-marks.ts";
import type { OverlayXattrPrefix } from "../overlayfs/xattr-names.ts";
import type { ClockStamp } from "./clock-stamp.ts";

export type { OverlayXattrPrefix };

/** The upper directory of an overlay over the directories it was written on. Visits only the upper and moved subtrees. */
export interface UpperSource extends LayerMarks {
  readonly kind: "upper";
  /** Absolute path of the upper directory. */
  readonly upper: ByteString;
  /** Absolute paths of the lower directories, the uppermost first; empty for a base layer. */
  readonly lowers: readonly ByteString[];
}

/**
 * Two plain trees. Without a hint they are compared entry by entry. A hint says what is known of them beforehand, so that
 * less is looked at; the stream applies to the same tree with it and without it. A hint that does not hold any more (see
 * `clock`) is passed over, and both trees are compared whole, contents and all: slower, never wrong.
 */
export interface TreesSource {
  readonly kind: "trees";
  /** Absolute path of the parent's tree, which nothing writes to any more; undefined for a base layer. */
  readonly parent: ByteString | undefined;
  /** Absolute path of the layer's tree. At rest while it is read: no process writes to it, or to a map of one of its files. */
  readonly tree: ByteString;
  readonly hint?: TreesHint | undefined;
}

/** What is known of two trees before they are looked at. */
export type TreesHint = InodeHint | CloneHint | ManifestHint | CandidatesHint | SendHint | NoChangeHint;

/**
 * Trees of hard links on one file system: what did not change has the same inode in both. Files are replaced, never written
 * to. Directories are read in both trees; of other objects none is looked at but those whose inode numbers differ.
 */
export interface InodeHint {
  readonly kind: "inode";
}

/**
 * The layer's tree began as a clone of the parent's file system or subvolume (btrfs snapshot, ZFS clone, thin snapshot):
 * every object had the parent's inode number and change time. Walks the layer's tree alone; the parent's is opened only
 * where something changed after `clock` was stamped.
 */
export interface CloneHint {
  readonly kind: "clone";
  /** Stamped before the clone was made, or right after it, before anything was written to the clone. */
  readonly clock: ClockStamp;
}

/**
 * The layer's tree began as a faithful copy of the parent's, hard links included, of which `writeManifest` took a manifest
 * before anything else was written to it. Walks the layer's tree alone; the parent's is opened only where an object is not
 * the one that the manifest has. Passed over on file systems that do not note every change in the change time, as tmpfs.
 */
export interface ManifestHint {
  readonly kind: "manifest";
  /** Absolute path of the manifest, which holds its own clock stamp. A manifest that is missing or broken is passed over. */
  readonly path: ByteString;
}

/**
 * Somebody knows which names may differ (btrfs send, `zfs diff`). Nothing else is looked at. All names of an inode, in
 * either tree, must be there when one of them is. Paths are relative to the roots; a name need not exist in both trees, or
 * in any. The root itself is always looked at.
 */
export interface CandidatesHint {
  readonly kind: "candidates";
  /** Names that may differ. Of a directory that both trees have, only the directory itself is compared. */
  readonly paths: readonly ByteString[];
  /** Directories that may differ in all that is below them, too: those that were renamed or moved here. */
  readonly subtrees: readonly ByteString[];
}

/**
 * Both trees are read-only btrfs subvolumes, the layer's made from the parent's: the kernel is asked which names may differ
 * (./btrfs-candidates.ts). Where it does not tell, what else is known counts.
 */
export interface SendHint {
  readonly kind: "btrfs-send";
  readonly otherwise: CloneHint | undefined;
}

/** There is proof that nothing changed. Nothing is looked at, not even the roots; the stream is empty. */
export interface NoChangeHint {
  readonly kind: "none";
}

export type DiffSource = UpperSource | TreesSource;

/**
 * Where a layer tar is to be applied. `overlay`: `root` is the layer's own directory, deletions become the marks of overlayfs,
 * and what lies below is found in `lowers`; `aufs`: the same with AUFS's marks. `remove`: `root` is a full copy of the
 * parent's tree, deletions are carried out; only directories are changed, of all else nothing that was not made here, so
 * that the copy may be one of hard links.
 */
export interface ApplyTarget extends LayerMarks {
  readonly whiteouts: "overlay" | "aufs" | "remove";
  /** Absolute path of the directory that receives the objects. */
  readonly root: ByteString;
  /** Absolute paths, the uppermost first; empty with `remove`. */
  readonly lowers: readonly ByteString[];
}

/** Where the content of a layer's files is read from: a stack of directories, the layer itself first. */
export interface ContentSource extends LayerMarks {
  readonly layers: readonly ByteString[];
}
