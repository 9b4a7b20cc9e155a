/**
 * How layers mark what they hide. There are the marks of the kernel's overlayfs, which LayerStack knows with all they can
 * mean, and those of other union file systems, which their layers may hold mixed:
 *
 *     .wh.NAME                                hides NAME, in its own layer and below (AUFS, fuse-overlayfs)
 *     NAME, a character device 0:0            the same (overlayfs, fuse-overlayfs)
 *     DIR/.wh..wh..opq                        DIR hides all that lies below it (AUFS, fuse-overlayfs)
 *     DIR, <prefix>opaque = "y"               the same (overlayfs, fuse-overlayfs)
 *     NAME, empty, with <prefix>whiteout      hides NAME, in a directory with <prefix>opaque = "x" (overlayfs)
 *     <prefix>redirect, <prefix>metacopy      what lies below is found elsewhere (overlayfs)
 *     .wh..wh.*                               AUFS's own: `.wh..wh.aufs`, `.wh..wh.plnk/`, `.wh..wh.orph/`
 *
 * Sources: aufs(5); fuse-overlayfs 1.10, main.c (is_directory_opaque, get_whiteout_name, can_access_xattr).
 */
import type { ByteString } from "../lib/bytes.ts";
import { type OverlayXattrPrefix, visibleXattrName } from "./xattr-names.ts";

export interface LayerMarks {
  /** Of overlayfs's attributes; those that are written begin so. */
  readonly prefix: OverlayXattrPrefix;
  /**
   * `overlayfs`, which is what counts when it is not given: the kernel's marks alone. `any`: every mark above but redirects
   * and metacopies, with every prefix; a directory's opaque mark counts on a layer's root too; no name that begins `.wh.` is
   * an object. `all`: redirects and metacopies as well, with the prefix given.
   */
  readonly marks?: MarkKind;
  /** Those of the uppermost layer, where they are others. */
  readonly upperMarks?: MarkKind;
}

export type MarkKind = "overlayfs" | "any" | "all";

/** True where names that begin `.wh.` are marks, and attributes of every prefix count. */
export function knowsFileMarks(kind: MarkKind | undefined): boolean {
  return kind === "any" || kind === "all";
}

/** The marks of the layers below the uppermost. */
export function lowerMarks({ prefix, marks }: LayerMarks): LayerMarks {
  return marks === undefined ? { prefix } : { prefix, marks };
}

/** Begins the names of marks that are files. */
export const markName = ".wh.";
/** In a directory that hides all that lies below it. */
export const opaqueName = ".wh..wh..opq";
/** The longest name that a mark of this kind can hide. */
export const longestMarked = 255 - markName.length;

const prefixes = ["trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."] as const;

/** The attributes any of which, when its value is "y", makes a directory opaque. */
export function opaqueXattrs({ prefix, marks }: LayerMarks): readonly ByteString[] {
  return knowsFileMarks(marks) ? prefixes.map((each) => `${each}opaque`) : [`${prefix}opaque`];
}

/** True for an attribute that belongs to the union file system, not to the object. */
export function isMarkXattr(name: ByteString, { prefix, marks }: LayerMarks): boolean {
  return knowsFileMarks(marks) ? prefixes.some((each) => name.startsWith(each)) : name.startsWith(prefix);
}

/** The attribute's name as seen through a mount, or undefined when it belongs to the union file system. */
export function visibleXattr(name: ByteString, marks: LayerMarks): ByteString | undefined {
  if (!knowsFileMarks(marks.marks)) return visibleXattrName(name, marks.prefix);
  return isMarkXattr(name, marks) ? undefined : name;
}
