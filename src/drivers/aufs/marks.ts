/**
 * What overlayfs must be told of a committed AUFS branch to show it as AUFS would, in two small trees beside it. The branch
 * itself is a lower layer as it is; one of the trees lies above it, the other below, and each holds nothing but marks of
 * overlayfs and the directories on the way to them:
 *
 *     above/    DIR/.wh.X    device 0:0: hides the mark itself
 *     below/    DIR/X        device 0:0: hides X in the layers further down
 *               DIR          <prefix>opaque = "y", where the branch has DIR/.wh..wh..opq: nothing of DIR shows from further down
 *     opaque                 an empty file, where the root of the branch is opaque: there are no layers further down
 *
 * A tree without marks is not there; most branches, bases above all, need neither. So nothing of a branch is copied or
 * linked. Directories in `above` have the attributes of the branch's, which they are shown in place of.
 */
import { copyAttributes } from "../../fs/copy-attributes.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { markName, opaqueName } from "../../overlayfs/layer-marks.ts";
import type { OverlayXattrPrefix } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

const aufsName = `${markName}${markName}`;

/**
 * Writes the marks of `branch` into the empty directory `target`. `check` is called once a directory and may throw.
 * Synchronous.
 */
export function writeMarks(
  branch: ByteString,
  target: ByteString,
  prefix: OverlayXattrPrefix,
  check: () => void,
): void {
  const above = new MarkTree(`${target}/above`, branch);
  const below = new MarkTree(`${target}/below`, branch);
  const visit = (fd: number, path: ByteString): void => {
    check();
    for (const { name, type } of sys.readdir(fd)) {
      if (name.startsWith(markName)) {
        above.whiteout(path, name);
        if (name === opaqueName) {
          if (path === "") makeFile(`${target}/opaque`);
          else below.opaque(path, `${prefix}opaque`);
        } else if (!name.startsWith(aufsName) && name.length > markName.length)
          below.whiteout(path, name.slice(markName.length));
      } else if (isDirectory(fd, name, type)) {
        using child = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
        visit(child.fd, path === "" ? name : `${path}/${name}`);
      }
    }
  };
  using root = sys.open(branch, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW);
  visit(root.fd, "");
  above.finish();
  below.finish();
}

/** True for a directory; `type` is what its parent says. */
export function isDirectory(dirFd: number, name: ByteString, type: number): boolean {
  if (type !== C.DT_UNKNOWN) return type === C.DT_DIR;
  const stat = sys.statIfExists(dirFd, name);
  return stat !== undefined && (stat.mode & C.S_IFMT) === C.S_IFDIR;
}

function makeFile(path: ByteString): void {
  using _ = sys.open(path, C.O_WRONLY | C.O_CREAT | C.O_NOFOLLOW, 0o600);
}

/** A tree of marks, made as far as there are any. */
class MarkTree {
  readonly #root: ByteString;
  readonly #branch: ByteString;
  /** Directories by path, a parent before its children. */
  readonly #made = new Set<ByteString>();

  constructor(root: ByteString, branch: ByteString) {
    this.#root = root;
    this.#branch = branch;
  }

  whiteout(directory: ByteString, name: ByteString): void {
    sys.mknodat(C.AT_FDCWD, `${this.#directory(directory)}/${name}`, C.S_IFCHR);
  }

  opaque(directory: ByteString, xattr: ByteString): void {
    sys.lsetxattrat(C.AT_FDCWD, this.#directory(directory), xattr, Buffer.from("y"));
  }

  /** Gives the directories the attributes of the branch's, which making things in them would change again. */
  finish(): void {
    for (const path of this.#made) copyAttributes(at(this.#branch, path), at(this.#root, path));
  }

  #directory(path: ByteString): ByteString {
    const own = at(this.#root, path);
    if (this.#made.has(path)) return own;
    if (path !== "") this.#directory(path.slice(0, Math.max(path.lastIndexOf("/"), 0)));
    sys.mkdirat(C.AT_FDCWD, own, 0o700);
    this.#made.add(path);
    return own;
  }
}

function at(root: ByteString, path: ByteString): ByteString {
  return path === "" ? root : `${root}/${path}`;
}
