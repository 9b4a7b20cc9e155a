/** What an upper directory says to those who stack it, in a form in which two can be compared. */
import type { OverlayXattrPrefix } from "../../src/overlayfs/xattr-names.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";

/** Paths with their types, and overlay's marks but those of identity, a line each. */
export function marksOf(upper: string, prefix: OverlayXattrPrefix): string[] {
  const found: string[] = [];
  const visit = (fd: number, path: string): void => {
    for (const { name } of sys.readdir(fd)) {
      const { mode, rdevMajor, rdevMinor } = sys.statx(fd, name);
      const marks = sys
        .llistxattrat(fd, name)
        .filter((key) => key.startsWith(prefix) && /\.(opaque|redirect|metacopy|whiteout)$/.test(key))
        .map((key) => `${key.slice(prefix.length)}=${sys.lgetxattrat(fd, name, key)}`);
      found.push([`${path}${name}`, (mode >>> 12).toString(8), rdevMajor, rdevMinor, ...marks.sort()].join(" "));
      if ((mode & C.S_IFMT) !== C.S_IFDIR) continue;
      using child = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
      visit(child.fd, `${path}${name}/`);
    }
  };
  using root = sys.open(upper, C.O_RDONLY | C.O_DIRECTORY);
  visit(root.fd, "");
  return found.sort();
}
