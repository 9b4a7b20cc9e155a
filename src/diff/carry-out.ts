/**
 * Carries the changes of an upper directory out on a tree of hard links of what it was written on, so that the tree becomes
 * what the two show together. Objects come into the tree as further names of those in the upper; nothing else in the tree is
 * changed but directories, as when a layer's tar is applied in place. Doing it twice does no harm: what was interrupted is
 * begun anew.
 */
import { FileCopier } from "../fs/copy-file.ts";
import type { ByteString } from "../lib/bytes.ts";
import { isMarkXattr, visibleXattr } from "../overlayfs/layer-marks.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { InPlaceTarget } from "./apply-in-place.ts";
import { Spill } from "./apply-spill.ts";
import { type DirNode, leaf } from "./apply-tree.ts";
import type { ObjectChange, Xattr } from "./change.ts";
import type { UpperSource } from "./source.ts";
import { UpperDiffer } from "./upper-differ.ts";

const EPERM = 1;
const EXDEV = 18;
const EMLINK = 31;
const noLink: readonly number[] = [-EPERM, -EXDEV, -EMLINK];

/** `tree`: absolute path. `check` is called for each change and may throw. Errors: those of the differ. */
export function carryOut(source: UpperSource, tree: ByteString, check: () => void): void {
  using carrier = new Carrier(source, tree);
  for (const change of new UpperDiffer(source).changes()) {
    check();
    switch (change.kind) {
      case "deleted":
        carrier.delete(change.path);
        break;
      case "opaque":
        carrier.empty(change.path);
        break;
      case "added":
      case "modified":
        carrier.put(change);
        break;
      default:
        change satisfies never;
    }
  }
  carrier.finish();
}

class Carrier implements Disposable {
  readonly #source: UpperSource;
  readonly #upper: sys.OwnedFd;
  readonly #target: InPlaceTarget;
  readonly #files = new FileCopier();

  constructor(source: UpperSource, tree: ByteString) {
    this.#source = source;
    this.#upper = sys.open(source.upper, C.O_PATH | C.O_DIRECTORY);
    // Nothing is ever spilled: no content is noted as one that a record needs.
    this.#target = new InPlaceTarget(tree, new Spill(""));
  }

  [Symbol.dispose](): void {
    this.#target[Symbol.dispose]();
    this.#upper[Symbol.dispose]();
  }

  delete(path: ByteString): void {
    const { directory, last } = this.#target.tree.resolve(path);
    if (last !== undefined) this.#target.erase(directory, last);
  }

  empty(path: ByteString): void {
    this.#target.hide(this.#target.tree.resolve(`${path}/.`).directory);
  }

  put(change: ObjectChange): void {
    const target = this.#target;
    const { path, stat } = change;
    target.metadata.subject = path;
    const resolved = target.tree.resolve(path);
    const parent = target.ensure(resolved);
    const name = resolved.last;
    if ((stat.mode & C.S_IFMT) === C.S_IFDIR) {
      const { node, isNew } =
        name === undefined ? { node: parent, isNew: false } : target.makeDirectory(parent, name, stat.mode & 0o777);
      target.setDirectory(node, isNew, { ...stat, mode: stat.mode & 0o7777, xattrs: change.xattrs.map(pairOf) });
    } else if (name === undefined) return;
    else if (change.linkTo !== undefined) target.link(target.tree.resolve(change.linkTo), parent, name);
    else this.#place(change, parent, name);
  }

  /** Sets what had to wait. The root has the time of the upper's. */
  finish(): void {
    const { root } = this.#target.tree;
    const { mtimeSec, mtimeNsec } = sys.fstat(this.#upper.fd);
    root.mtimeSec = mtimeSec;
    root.mtimeNsec = mtimeNsec;
    this.#target.finish();
  }

  #place(change: ObjectChange, parent: DirNode, name: ByteString): void {
    const { tree, metadata } = this.#target;
    this.#target.place(parent, name, "linkat", (dirfd) => {
      const r = this.#isInUpper(change) ? raw.linkat(this.#upper.fd, change.path, dirfd, name) : -EXDEV;
      return noLink.includes(r) ? this.#copy(change, dirfd, name) : r;
    });
    const dirfd = tree.fdOf(parent);
    // What the upper's file system notes of its own would be taken for the object's.
    for (const xattr of sys.llistxattrat(dirfd, name))
      if (isMarkXattr(xattr, this.#source)) metadata.check("lremovexattr", raw.lremovexattrat(dirfd, name, xattr));
    parent.children.set(name, LINKED);
  }

  /**
   * True when the upper has the object at its path, all of it and as it is: not when it was moved there, has its data below,
   * or has attributes under other names.
   */
  #isInUpper({ path, stat }: ObjectChange): boolean {
    const there = raw.statx(this.#upper.fd, path);
    if (typeof there === "number" || !sys.sameInode(there, stat)) return false;
    return sys.llistxattrat(this.#upper.fd, path).every((name) => {
      const visible = visibleXattr(name, this.#source);
      return visible === name || (visible === undefined && !name.endsWith(".metacopy"));
    });
  }

  #copy(change: ObjectChange, dirfd: number, name: ByteString): number {
    const { stat, xattrs, linkTarget } = change;
    const { metadata } = this.#target;
    if (change.open !== undefined) {
      const flags = C.O_WRONLY | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW;
      const fd = raw.openat(dirfd, name, flags, 0o600);
      if (fd < 0) return fd;
      using to = new sys.OwnedFd(fd);
      using from = change.open();
      this.#files.copy(from.fd, to.fd, stat.size, sys.fstat(from.fd).blocks);
    } else {
      const type = stat.mode & (C.S_IFMT | 0o600);
      const made =
        linkTarget === undefined
          ? raw.mknodat(dirfd, name, type, stat.rdevMajor, stat.rdevMinor)
          : raw.symlinkat(linkTarget, dirfd, name);
      if (made < 0) return made;
    }
    metadata.lchown(dirfd, name, stat.uid, stat.gid);
    if (linkTarget === undefined) metadata.lchmod(dirfd, name, stat.mode & 0o7777);
    metadata.lsetxattrs(dirfd, name, xattrs.map(pairOf));
    metadata.utimens(dirfd, name, stat.mtimeSec, stat.mtimeNsec);
    return 0;
  }
}

const LINKED = leaf.plain;

function pairOf({ name, value }: Xattr): readonly [ByteString, Uint8Array] {
  return [name, value];
}
