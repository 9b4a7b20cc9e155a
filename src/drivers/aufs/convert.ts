/**
 * Turning the marks of a writable branch from AUFS's into overlayfs's, in place, and back. Every mark is there in its new form
 * before it goes in its old one, and whoever reads a branch knows both forms (`marks: "any"`), so that a branch means the
 * same at any moment, also where a crash has left it half way. Directories keep their times.
 */
import { checkLayerName } from "../../diff/layer-names.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { isMarkXattr, type LayerMarks, longestMarked, markName, opaqueName } from "../../overlayfs/layer-marks.ts";
import { isWhiteoutDevice, LayerStack } from "../../overlayfs/layer-stack.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { isDirectory } from "./marks.ts";

/** The marks a branch can have: AUFS's files, or overlayfs's devices and attributes. */
export type BranchForm = "aufs" | "overlay";

export interface Branch {
  readonly path: ByteString;
  /** The branches below, the uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly marks: LayerMarks;
}

const aufsName = `${markName}${markName}`;

/** Gives all marks of a branch that nobody uses the form `form`. `check` is called once a directory and may throw. */
export function convertBranch(branch: Branch, form: BranchForm, check: () => void): void {
  const { marks } = branch;
  const convert = form === "aufs" ? toAufs : toOverlay;
  const visit = (fd: number, path: ByteString): void => {
    check();
    const before = sys.fstat(fd);
    const entries = sys.readdir(fd);
    for (const entry of entries) convert({ branch, fd, path, ...entry });
    if (form === "aufs") {
      const opaque = path !== "" && sys.fgetxattr(fd, `${marks.prefix}opaque`)?.toString("latin1") === "y";
      if (opaque) makeMark(fd, opaqueName);
      forgetOverlay(fd, ".", marks);
    }
    for (const { name, type } of entries) {
      if (name.startsWith(markName)) continue;
      if (isDirectory(fd, name, type)) {
        using child = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
        visit(child.fd, path === "" ? name : `${path}/${name}`);
      } else if (form === "aufs") forgetOverlay(fd, name, marks);
    }
    sys.utimensat(fd, "", before);
  };
  using root = sys.open(branch.path, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW);
  visit(root.fd, "");
}

/**
 * Refuses what was named through overlayfs so that it would be taken for one of AUFS's marks. Errors: failed_precondition
 * (`INEXPRESSIBLE_NAME`).
 */
export function checkNames(branch: ByteString, check: () => void): void {
  using root = sys.open(branch, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW);
  const visit = (fd: number, path: ByteString): void => {
    check();
    for (const { name, type } of sys.readdir(fd)) {
      const whole = path === "" ? name : `${path}/${name}`;
      checkLayerName(name, whole);
      if (!isDirectory(fd, name, type)) continue;
      using child = new sys.OwnedFd(sys.openat(fd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
      visit(child.fd, whole);
    }
  };
  visit(root.fd, "");
}

interface Entry {
  readonly branch: Branch;
  /** Of the directory it is in. */
  readonly fd: number;
  readonly path: ByteString;
  readonly name: ByteString;
  readonly type: number;
}

function toAufs({ fd, name, type }: Entry): void {
  // A name too long to be marked by a file keeps its device: readers know it, overlayfs too.
  if ((type !== C.DT_CHR && type !== C.DT_UNKNOWN) || name.length > longestMarked) return;
  if (!isWhiteoutDevice(sys.statx(fd, name))) return;
  makeMark(fd, markName + name);
  sys.unlinkat(fd, name);
}

function toOverlay({ branch, fd, path, name }: Entry): void {
  if (!name.startsWith(markName)) return;
  if (name === opaqueName) {
    if (path === "") hideEach(branch, fd);
    else sys.fsetxattr(fd, `${branch.marks.prefix}opaque`, Buffer.from("y"));
  } else if (name.startsWith(aufsName) || name.length === markName.length) {
    // AUFS's own, of a mount that is over: the base of its whiteouts, pseudo-links, orphans.
    removeTree(`/proc/self/fd/${fd}/${name}`);
    return;
  } else makeWhiteout(fd, name.slice(markName.length));
  sys.unlinkat(fd, name);
}

/** The root of an overlay always merges: in place of one mark each name below needs one. */
function hideEach({ path, lowers, marks }: Branch, fd: number): void {
  if (lowers.length === 0) return;
  using below = LayerStack.open(lowers, marks);
  using own = LayerStack.open([path], marks);
  for (const name of below.list(below.root)) if (own.lookup(name) === undefined) makeWhiteout(fd, name);
}

function makeWhiteout(fd: number, name: ByteString): void {
  const there = sys.statIfExists(fd, name);
  if (there !== undefined) {
    if (isWhiteoutDevice(there)) return;
    // Hidden by the mark all the same.
    removeTree(`/proc/self/fd/${fd}/${name}`);
  }
  sys.mknodat(fd, name, C.S_IFCHR);
}

function makeMark(fd: number, name: ByteString): void {
  using _ = new sys.OwnedFd(sys.openat(fd, name, C.O_WRONLY | C.O_CREAT | C.O_NOFOLLOW, 0o444));
}

/** Takes away what overlayfs has noted of an object: seen through AUFS it would be the object's. */
function forgetOverlay(fd: number, name: ByteString, { prefix }: LayerMarks): void {
  const names = raw.llistxattrat(fd, name);
  if (typeof names === "number") return;
  for (const xattr of names) if (isMarkXattr(xattr, { prefix })) sys.lremovexattrat(fd, name, xattr);
}
