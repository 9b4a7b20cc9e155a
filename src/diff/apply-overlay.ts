/**
 * A target that is the upper directory of an overlay, or a branch of AUFS: deletions become whiteouts and opaque directories
 * (./apply-marks.ts), what lies below is asked of the merged lower layers. It starts empty.
 *
 * The lower layers are opened when first needed; they may still be being written when the layer begins, so opening waits.
 */
import type { ByteString } from "../lib/bytes.ts";
import type { LayerStack, MergedEntry } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { OwnedFd } from "../sys/syscalls.ts";
import { MarkWriter } from "./apply-marks.ts";
import { isOverlayXattr } from "./apply-metadata.ts";
import { copyContent, type Spill } from "./apply-spill.ts";
import { TargetTree } from "./apply-target.ts";
import { DirNode, type FoundBelow, leaf } from "./apply-tree.ts";
import { isHostXattr } from "./layer-xattrs.ts";
import type { ApplyTarget } from "./source.ts";

export class OverlayTarget extends TargetTree {
  readonly #marks: MarkWriter;
  readonly #openLower: () => LayerStack;
  #stack: LayerStack | undefined;

  /** `openLower`: opens the merged lower layers, waiting until they are complete; the stack belongs to the target. */
  constructor(target: ApplyTarget, spill: Spill, openLower: () => LayerStack) {
    super(target.root, spill);
    this.#marks = new MarkWriter(target);
    this.#openLower = openLower;
    const root = this.tree.root;
    if (target.lowers.length === 0) root.below = "none";
    this.keepMetadata(root);
    // Without an entry of its own the root keeps its mode; its time is that of the layer below, or of the unpacking.
    root.mtimeSec = undefined;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#stack?.[Symbol.dispose]();
  }

  override find(directory: DirNode, name: ByteString): FoundBelow | undefined {
    const entry = this.#lookup(directory, name);
    if (entry === undefined) return undefined;
    switch (entry.stat.mode & C.S_IFMT) {
      case C.S_IFDIR:
        return { type: "directory", below: entry };
      case C.S_IFLNK:
        return { type: "symlink", target: this.#lower().readlink(entry) };
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
      this.#drop(directory, name);
    } else if (child === leaf.borrowed) {
      this.#drop(directory, name);
    } else if (child !== undefined) return;
    const found = this.#lookup(directory, name);
    if (found === undefined) return;
    this.enter(directory);
    this.#marks.whiteout(this.tree.fdOf(directory), name, this.metadata.subject);
    directory.children.set(name, leaf.whiteout);
    const type = found.stat.mode & C.S_IFMT;
    // Paths may lead through a directory or a link only.
    if (type === C.S_IFDIR || type === C.S_IFLNK) this.tree.invalidate();
  }

  override hide(directory: DirNode): void {
    if (this.#below(directory) === "none") return;
    this.enter(directory);
    if (directory === this.tree.root) {
      // The root of an overlay always merges, so that each name needs its own whiteout.
      const stack = this.#lower();
      for (const name of stack.list(stack.root)) this.erase(directory, name);
      return;
    }
    this.#markOpaque(directory);
    this.#settle(directory);
  }

  override clear(directory: DirNode, name: ByteString): void {
    const isHidden = directory.children.get(name) === leaf.whiteout;
    super.clear(directory, name);
    if (isHidden) this.#marks.unhide(this.tree.fdOf(directory), name, this.metadata.subject);
  }

  #markOpaque(directory: DirNode): void {
    this.#marks.opaque(this.tree.fdOf(directory), directory.path);
  }

  /** Nothing below shows through any more: forgets what was seen of it, removes what only hid or repeated it. */
  #settle(directory: DirNode): void {
    directory.below = "none";
    for (const [name, child] of directory.children) {
      if (child instanceof DirNode && child.own) this.#settle(child);
      else if (child instanceof DirNode || child === leaf.whiteout || child === leaf.borrowed)
        this.#drop(directory, name);
    }
    this.tree.invalidate();
  }

  /** Removes what the target has of a name that is not the layer's own; often nothing. */
  #drop(directory: DirNode, name: ByteString): void {
    const child = directory.children.get(name);
    if (!(child instanceof DirNode) || child.there) {
      this.clear(directory, name);
      return;
    }
    this.tree.forget(child);
    directory.children.delete(name);
  }

  override borrow(directory: DirNode, name: ByteString): void {
    const entry = this.#lookup(directory, name);
    if (entry === undefined) return;
    this.reach(directory);
    const stack = this.#lower();
    const dirfd = this.tree.fdOf(directory);
    const { stat } = entry;
    const type = stat.mode & C.S_IFMT;
    if (type === C.S_IFREG) {
      const flags = C.O_WRONLY | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW;
      using to = new OwnedFd(this.metadata.check("openat", raw.openat(dirfd, name, flags, 0o600)));
      using from = stack.open(entry);
      copyContent(from.fd, to.fd);
      this.metadata.fchown(to.fd, stat.uid, stat.gid);
      this.metadata.check("fchmod", raw.fchmod(to.fd, stat.mode & 0o7777));
      this.metadata.fsetxattrs(to.fd, this.#xattrs(entry));
    } else {
      const result =
        type === C.S_IFLNK
          ? raw.symlinkat(stack.readlink(entry), dirfd, name)
          : raw.mknodat(dirfd, name, stat.mode & ~this.metadata.umask, stat.rdevMajor, stat.rdevMinor);
      this.metadata.check("mknodat", result);
      this.metadata.lchown(dirfd, name, stat.uid, stat.gid);
      if (type !== C.S_IFLNK) this.metadata.lchmod(dirfd, name, stat.mode & 0o7777);
      this.metadata.lsetxattrs(dirfd, name, this.#xattrs(entry));
    }
    this.metadata.utimens(dirfd, name, stat.mtimeSec, stat.mtimeNsec);
    directory.children.set(name, leaf.borrowed);
  }

  protected override bring(directory: DirNode): void {
    const entry = this.#below(directory) as MergedEntry;
    const parent = directory.parent as DirNode;
    const createMode = (entry.stat.mode & 0o777) | 0o700;
    this.metadata.check("mkdirat", raw.mkdirat(this.tree.fdOf(parent), directory.name, createMode));
    directory.actualMode = createMode & ~this.metadata.umask;
    this.#copyMetadata(directory, entry, true);
  }

  #copyMetadata(directory: DirNode, entry: MergedEntry, isNew: boolean): void {
    const { mode, uid, gid, mtimeSec, mtimeNsec } = entry.stat;
    const xattrs = this.#xattrs(entry);
    this.setDirectory(directory, isNew, { mode: mode & 0o7777, uid, gid, mtimeSec, mtimeNsec, xattrs });
  }

  #xattrs(entry: MergedEntry): [ByteString, Uint8Array][] {
    const list: [ByteString, Uint8Array][] = [];
    for (const { name, value } of this.#lower().xattrs(entry)) if (!isHostXattr(name)) list.push([name, value]);
    return list;
  }

  protected override replaced(directory: DirNode): void {
    // What stood here hid the directory below; the new one must go on hiding it.
    const entry = this.#lookup(directory.parent as DirNode, directory.name);
    directory.below = "none";
    if (entry !== undefined && (entry.stat.mode & C.S_IFMT) === C.S_IFDIR) this.#markOpaque(directory);
  }

  protected override created(): void {
    // Merges with the directory below of that name, if there is one; found out when it matters.
  }

  protected override adopt(): boolean {
    return false;
  }

  protected override isRemovable(xattr: ByteString): boolean {
    return !isOverlayXattr(xattr) && !isHostXattr(xattr);
  }

  override finish(): void {
    const root = this.tree.root;
    const below = this.rootIsExplicit ? "none" : this.#below(root);
    if (below !== "none") this.#copyMetadata(root, below as MergedEntry, false);
    super.finish();
  }

  #lower(): LayerStack {
    this.#stack ??= this.#openLower();
    return this.#stack;
  }

  /** What is below a directory of the merged view, found out when first asked. */
  #below(directory: DirNode): "none" | MergedEntry {
    if (directory.below === "unknown") {
      if (directory.parent === undefined) directory.below = this.#lower().root;
      else {
        const entry = this.#lookup(directory.parent, directory.name);
        directory.below = entry !== undefined && (entry.stat.mode & C.S_IFMT) === C.S_IFDIR ? entry : "none";
      }
    }
    return directory.below as "none" | MergedEntry;
  }

  #lookup(directory: DirNode, name: ByteString): MergedEntry | undefined {
    const below = this.#below(directory);
    return below === "none" ? undefined : this.#lower().lookupIn(below, name);
  }
}
