/**
 * The change stream: what one layer does to the tree below it.
 *
 * A stream is an ordered sequence of changes. Order is part of the contract: names of a directory in byte order (deletions
 * among them or before them), a directory before its children, `opaque` right after its directory, the target of a
 * hard link before the link. A directory with changes below it is part of the stream even when it is unchanged itself. A source (upper directory, two trees, later btrfs send and others) makes a stream; the exporter
 * turns it into a layer tar; the applier turns a tar into a changed tree. Whatever the source, its stream applies to the
 * same tree.
 *
 * Streams are synchronous iterables that run where blocking is allowed (a worker thread). They visit what changed and
 * directories on the way to it, and nothing else. Descriptors behind a change are valid until the next one is asked for.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { OwnedFd, Stat } from "../sys/syscalls.ts";

/** One extended attribute: as a layer carries it, that is without overlay's own attributes. */
export interface Xattr {
  readonly name: ByteString;
  readonly value: Uint8Array;
}

/** An object that is new, or replaces or alters what the parent has at its path. */
export interface ObjectChange {
  readonly kind: "added" | "modified";
  /** Relative to the root, components joined by `/`, no leading slash; the root itself is "". */
  readonly path: ByteString;
  readonly stat: Stat;
  /** Sorted by name. Empty for hard links, whose first name carries them. */
  readonly xattrs: readonly Xattr[];
  /** Target of a symbolic link. */
  readonly linkTarget?: ByteString;
  /** Path of an earlier object of this stream that this one is a hard link to. */
  readonly linkTo?: ByteString;
  /** Opens the content of a regular file that is not a hard link; `stat.size` bytes. */
  readonly open?: () => OwnedFd;
}

/** A name the parent has and the layer removes, with all below it. */
export interface Deletion {
  readonly kind: "deleted";
  readonly path: ByteString;
}

/** A directory of this stream that hides all the parent has in it. Comes right after the directory's own change. */
export interface Opaque {
  readonly kind: "opaque";
  readonly path: ByteString;
}

export type Change = ObjectChange | Deletion | Opaque;
