/**
 * A target that already holds a full copy of the parent's tree: deletions are carried out. A directory of that copy counts
 * as below until the layer has written something in it; its mode and time are given back at the end.
 */
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { OwnedFd, readdir } from "../sys/syscalls.ts";
import type { Spill } from "./apply-spill.ts";
import { TargetTree } from "./apply-target.ts";
import { DirNode, type FoundBelow, leaf } from "./apply-tree.ts";
import { isHostXattr } from "./layer-xattrs.ts";

const ENOENT = 2;

export class InPlaceTarget extends TargetTree {
  /** `root`: absolute path of the copy. */
  constructor(root: ByteString, spill: Spill) {
    super(root, spill);
    this.tree.root.below = "in place";
    this.keepMetadata(this.tree.root);
  }

  override find(directory: DirNode, name: ByteString): FoundBelow | undefined {
    if (directory.below === "none") return undefined;
    const dirfd = this.tree.fdOf(directory);
    const stat = raw.statx(dirfd, name);
    if (typeof stat === "number") {
      if (stat !== -ENOENT) this.metadata.check("statx", stat);
      return undefined;
    }
    switch (stat.mode & C.S_IFMT) {
      case C.S_IFDIR:
        return { type: "directory", below: "in place" };
      case C.S_IFLNK: {
        const target = raw.readlinkat(dirfd, name);
        if (typeof target === "string") return { type: "symlink", target };
        this.metadata.check("readlinkat", target);
        return undefined;
      }
      default:
        return { type: "other" };
    }
  }

  override erase(directory: DirNode, name: ByteString): void {
    const child = directory.children.get(name);
    if (child instanceof DirNode) {
      if (child.own) {
        this.hide(child);
        return;
      }
    } else if (child !== undefined && child !== leaf.borrowed) return;
    if (this.find(directory, name) === undefined) return;
    this.enter(directory);
    this.clear(directory, name);
  }

  override hide(directory: DirNode): void {
    if (directory.below === "none") return;
    this.enter(directory);
    const fd = raw.openat(this.tree.fdOf(directory), ".", C.O_RDONLY | C.O_DIRECTORY);
    using open = new OwnedFd(this.metadata.check("openat", fd));
    for (const { name } of readdir(open.fd)) {
      const child = directory.children.get(name);
      if (child instanceof DirNode && child.own) this.hide(child);
      else if (child === undefined || child instanceof DirNode || child === leaf.borrowed) this.clear(directory, name);
    }
    directory.below = "none";
  }

  override borrow(directory: DirNode, name: ByteString): void {
    directory.children.set(name, leaf.borrowed);
  }

  protected override bring(directory: DirNode): void {
    this.keepMetadata(directory);
  }

  protected override replaced(directory: DirNode): void {
    directory.below = "none";
  }

  protected override created(directory: DirNode): void {
    directory.below = "none";
  }

  protected override adopt(directory: DirNode): boolean {
    const stat = raw.statx(this.tree.fdOf(directory.parent as DirNode), directory.name);
    if (typeof stat === "number" || (stat.mode & C.S_IFMT) !== C.S_IFDIR) return false;
    directory.below = "in place";
    return true;
  }

  protected override isRemovable(xattr: ByteString): boolean {
    return !isHostXattr(xattr);
  }
}
