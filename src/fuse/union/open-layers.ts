/**
 * Opens what a union is made of: its lower layers, the directories it writes to, and among them the work directory, which is
 * emptied and may be refused.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { type AccessTimes, detachedBind } from "../../fs/mounts.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { DirectoryLayer } from "../../overlayfs/directory-layer.ts";
import type { Layer } from "../../overlayfs/layer.ts";
import { TarLayer } from "../../overlayfs/tar-layer.ts";
import type { OverlayXattrPrefix } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";

/**
 * A lower layer through a read-only mount of our own, as the kernel's overlayfs has it: reading sets no access times, and who
 * unmounts the layer's file system right after the union need not wait for us. Where mounting is not allowed, as it lies.
 * A file is a tar.
 */
export function openLower(path: ByteString, prefix: OverlayXattrPrefix): Layer {
  if ((sys.statx(C.AT_FDCWD, path, 0).mode & C.S_IFMT) === C.S_IFREG) return new TarLayer(path, prefix);
  let mount: sys.OwnedFd;
  try {
    mount = detachedBind(path, { readOnly: true });
  } catch (error) {
    if (!hasCode(error, "EPERM", "ENOSYS", "EINVAL")) throw error;
    return new DirectoryLayer(path);
  }
  using own = mount;
  return new DirectoryLayer(`/proc/self/fd/${own.fd}`);
}

/** A directory: the path by which it is opened, and the one that people know. */
export interface Folder {
  readonly at: ByteString;
  readonly path: ByteString;
}

/** The upper directory and the work directory of a union, for as long as it takes to open them. */
export interface WritableFolders extends Disposable {
  readonly upper: Folder;
  readonly work: Folder;
}

/**
 * Both through one mount of our own, as the kernel's overlayfs has them: access times are set as the union's mount has it,
 * whatever the layer's has. As they lie, where mounting is not allowed or they are on two mounts.
 */
export function writableFolders(upper: ByteString, work: ByteString, accessTimes: AccessTimes): WritableFolders {
  const asTheyLie = {
    upper: { at: upper, path: upper },
    work: { at: work, path: work },
    [Symbol.dispose]: () => undefined,
  };
  try {
    const a = placeOf(upper);
    const b = placeOf(work);
    const above = commonAbove(a.path, b.path);
    const isOneMount = a.mount !== undefined && a.mount === b.mount;
    if (!isOneMount || raw.statxMountId(C.AT_FDCWD, above, 0) !== a.mount) return asTheyLie;
    const own = detachedBind(above, { accessTimes });
    const beneath = (path: ByteString): ByteString => `/proc/self/fd/${own.fd}/${path.slice(above.length)}`;
    return {
      upper: { at: beneath(a.path), path: upper },
      work: { at: beneath(b.path), path: work },
      [Symbol.dispose]: () => own[Symbol.dispose](),
    };
  } catch (error) {
    if (!hasCode(error, "EPERM", "ENOSYS", "EINVAL", "ENAMETOOLONG")) throw error;
    return asTheyLie;
  }
}

/** Where a directory really is, and on which mount; that is undefined on kernels before 5.8. */
function placeOf(path: ByteString): { readonly path: ByteString; readonly mount: number | undefined } {
  using directory = sys.open(path, C.O_PATH | C.O_DIRECTORY);
  const mount = raw.statxMountId(directory.fd, "", C.AT_EMPTY_PATH);
  return { path: sys.readlinkat(C.AT_FDCWD, `/proc/self/fd/${directory.fd}`), mount };
}

/** The deepest directory above both, with a slash at its end. */
function commonAbove(a: ByteString, b: ByteString): ByteString {
  let end = 0;
  for (let i = 0; i < a.length && a[i] === b[i]; i++) if (a[i] === "/") end = i + 1;
  return a.slice(0, end);
}

/**
 * Makes `work` in the work directory, empty; what is made in it is not to inherit a group or an ACL. What a volatile mount has
 * left there, the kernel's or ours, means that the upper layer may not be whole on disk: whoever knows better removes the
 * mark. Errors: failed_precondition (INCOMPATIBLE_WORK). Interrupted anywhere, the next mount does it again.
 */
export function openWork(folder: Folder, volatile: boolean): sys.OwnedFd {
  const work = `${folder.at}/work`;
  const marks = `${work}/incompat`;
  if (sys.statIfExists(C.AT_FDCWD, marks) !== undefined) {
    using incompatible = sys.open(marks, C.O_RDONLY | C.O_DIRECTORY);
    const [first] = sys.readdir(incompatible.fd);
    if (first !== undefined) throw incompatibleWork(`${folder.path}/work/incompat`, first.name);
  }
  if (sys.statIfExists(C.AT_FDCWD, work) !== undefined) removeTree(work);
  sys.mkdirat(C.AT_FDCWD, work, 0o700);
  sys.lchmodat(C.AT_FDCWD, work, 0o700);
  sys.lremovexattrat(C.AT_FDCWD, work, "system.posix_acl_default");
  if (volatile) {
    for (const folder of [marks, `${marks}/volatile`]) sys.mkdirat(C.AT_FDCWD, folder, 0o700);
    sys.mknodat(C.AT_FDCWD, `${marks}/volatile/dirty`, C.S_IFREG, 0, 0);
  }
  return sys.open(work, C.O_PATH | C.O_DIRECTORY);
}

function incompatibleWork(marks: ByteString, feature: ByteString): LamellaError {
  const path = textOfBytes(`${marks}/${feature}`);
  return new LamellaError("failed_precondition", "INCOMPATIBLE_WORK", `${path}: the last mount was ${feature}`, {
    hint: `what it wrote may not be whole after a crash; if it is, or does not matter, remove ${path}`,
  });
}
