/**
 * One layer as overlay semantics see it: a tree of objects named by paths relative to the layer's root, with no meaning
 * given yet to whiteouts or overlay's attributes. A path is never followed through a symbolic link: the stack asks for
 * children only of what it has seen to be a directory. The root is "".
 *
 * Implementations: DirectoryLayer over a directory on disk, TarLayer over a tar, and the upper layer of a mounted union.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { DirEntry, OwnedFd, Stat } from "../sys/syscalls.ts";

export interface Layer extends Disposable {
  /** Opens any object for its identity alone (O_PATH); undefined in a layer whose objects have no file handles. */
  openPath(path: ByteString): OwnedFd | undefined;
  /** lstat, a new object each time; undefined when there is nothing of that name. */
  stat(path: ByteString): Stat | undefined;
  /** The names in a directory, in any order, without `.` and `..`. */
  list(path: ByteString): readonly DirEntry[];
  readlink(path: ByteString): ByteString;
  /** The value of one attribute, undefined when the object has none of that name. */
  getxattr(path: ByteString, name: ByteString): Buffer | undefined;
  listxattr(path: ByteString): readonly ByteString[];
  /** When the object was made, in seconds and nanoseconds; undefined where that is not known. */
  birthTime(path: ByteString): readonly [number, number] | undefined;
  /** Opens a regular file for reading. */
  open(path: ByteString): OwnedFd;
  /** Where a regular file's bytes lie in another file; undefined where it has one of its own, for `open`. */
  extent(path: ByteString): FileExtent | undefined;
}

/** In bytes. The descriptor is the layer's. */
export interface FileExtent {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

/** Where an object lies: the index of its layer in the stack (0 is the uppermost) and its path in that layer. */
export interface Place {
  readonly layer: number;
  readonly path: ByteString;
}

/** A directory of one layer that takes part in a merged directory. */
export interface DirectoryPart extends Place {
  /** The directory is marked (`opaque` = "x"): empty regular files with the `whiteout` attribute in it are whiteouts. */
  readonly xattrWhiteouts: boolean;
}

/** One name of a merged directory. Type and inode number are those of the object in that layer. */
export interface LayerEntry extends DirEntry {
  readonly layer: number;
}

/** One object of the merged view. */
export interface MergedEntry {
  /** Path in the merged view. */
  readonly path: ByteString;
  /** Metadata, of the uppermost layer that has the object. For a metacopy file the size is right, `blocks` is not. */
  readonly stat: Stat;
  /** Where metadata and attributes come from. */
  readonly place: Place;
  /** Where a regular file's content comes from: another place than `place` for a metacopy file. */
  readonly data: Place;
  /** For a directory: every directory merged into it, the uppermost first. Empty for all else. */
  readonly parts: readonly DirectoryPart[];
}
