/**
 * Overlay's own extended attributes. On a mount without `userxattr` they begin with `trusted.overlay.`, with it
 * `user.overlay.`; the other prefix is ordinary data there. An attribute `<prefix>x` set *through* a mount is stored as
 * `<prefix>overlay.x` (Linux 6.7); reading takes one such level off.
 *
 * Source: Documentation/filesystems/overlayfs.rst, fs/overlayfs/{overlayfs.h,xattrs.c}.
 */
import type { ByteString } from "../lib/bytes.ts";

export type OverlayXattrPrefix = "trusted.overlay." | "user.overlay.";

/** The attribute's name as seen through the mount, or undefined when it is overlay's own. */
export function visibleXattrName(name: ByteString, prefix: OverlayXattrPrefix): ByteString | undefined {
  if (!name.startsWith(prefix)) return name;
  const rest = name.slice(prefix.length);
  return rest.startsWith("overlay.") ? prefix + rest.slice("overlay.".length) : undefined;
}
