/**
 * What both kinds of target have in common: names are cleared and directories made the same way, whether deletions become
 * whiteouts (./apply-overlay.ts) or are carried out (./apply-in-place.ts). The subclasses say what the layers below show,
 * and how one of their names is hidden.
 *
 * The rule both keep: within one layer, deletions only ever concern what lies below. What the layer itself has written
 * stays, wherever in the archive the deletion stands.
 */
import { randomBytes } from "node:crypto";
import { LamellaError } from "../errors/lamella-error.ts";
import { FileCopier } from "../fs/copy-file.ts";
import { copyObject } from "../fs/copy-tree.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { renameat2, statx } from "../sys/syscalls.ts";
import { defaultAclName, MetadataWriter, type ObjectMetadata } from "./apply-metadata.ts";
import type { Spill } from "./apply-spill.ts";
import { ApplyTree, type BelowView, DirNode, type FoundBelow, leaf, type Resolved } from "./apply-tree.ts";

const EEXIST = 17;
const EISDIR = 21;
const EMLINK = 31;
const EPERM = 1;
const ENOENT = 2;

export abstract class TargetTree implements BelowView, Disposable {
  readonly tree: ApplyTree;
  readonly metadata = new MetadataWriter();
  readonly #spill: Spill;
  /** An entry for the root itself has been applied. */
  rootIsExplicit = false;

  constructor(root: ByteString, spill: Spill) {
    this.tree = new ApplyTree(root, this);
    this.#spill = spill;
  }

  /** What the layers below show at a name that the layer has not written. */
  abstract find(directory: DirNode, name: ByteString): FoundBelow | undefined;

  /** Hides a name of the layers below; what the layer has written stays. */
  abstract erase(directory: DirNode, name: ByteString): void;

  /** Hides all that the layers below have in a directory. */
  abstract hide(directory: DirNode): void;

  /** Makes an object of the layers below that is no directory available for linking. */
  abstract borrow(directory: DirNode, name: ByteString): void;

  /** Makes a directory of the layers below part of the target, with its metadata. Its parent already is. */
  protected abstract bring(directory: DirNode): void;

  /** A name that held something else now is a new, empty directory. */
  protected abstract replaced(directory: DirNode): void;

  /** A new directory was made where the tree knew of nothing: what is below it? */
  protected abstract created(directory: DirNode): void;

  /** A directory was there that the tree did not know of; false when it is none. */
  protected abstract adopt(directory: DirNode): boolean;

  [Symbol.dispose](): void {
    this.tree[Symbol.dispose]();
  }

  /** Makes a directory, and those above it, the layer's own. */
  enter(directory: DirNode): void {
    if (directory.own) return;
    this.enter(directory.parent as DirNode);
    this.reach(directory);
    directory.own = true;
  }

  /** Brings a directory of the layers below into the target, for something that is not the layer's own. */
  protected reach(directory: DirNode): void {
    if (directory.there) return;
    this.reach(directory.parent as DirNode);
    this.bring(directory);
    directory.there = true;
  }

  /** The directory that `resolved` needs as parent; what is missing is made, 0755 and root's. */
  ensure(resolved: Resolved): DirNode {
    let directory = resolved.directory;
    this.enter(directory);
    for (const name of resolved.missing) {
      const { node, isNew } = this.makeDirectory(directory, name, 0o755);
      if (isNew) {
        this.setDirectory(node, true, { mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] });
      }
      directory = node;
    }
    return directory;
  }

  /** Calls `create` until the name is free; it returns a result or -EEXIST. */
  place(directory: DirNode, name: ByteString, call: string, create: (dirfd: number) => number): number {
    if (directory.children.has(name)) this.clear(directory, name);
    let result = create(this.tree.fdOf(directory));
    if (result === -EEXIST) {
      this.clear(directory, name);
      result = create(this.tree.fdOf(directory));
    }
    return this.metadata.check(call, result);
  }

  /** Removes whatever the target has at a name, keeping payloads that the record needs. */
  clear(directory: DirNode, name: ByteString): void {
    const child = directory.children.get(name);
    const dirfd = this.tree.fdOf(directory);
    if (typeof child === "number" && child >= 0) this.#spill.keep(dirfd, name, child);
    else if (child instanceof DirNode) {
      if (child.there) this.#keepPayloads(child);
      this.tree.forget(child);
    }
    this.unlink(this.tree.fdOf(directory), name);
    directory.children.delete(name);
    this.tree.invalidate();
  }

  #keepPayloads(directory: DirNode): void {
    for (const [name, child] of directory.children) {
      if (typeof child !== "number") {
        if (child.there) this.#keepPayloads(child);
      } else if (child >= 0) this.#spill.keep(this.tree.fdOf(directory), name, child);
    }
  }

  /** Removes a name with all below it; it need not be there. */
  protected unlink(dirfd: number, name: ByteString): void {
    const result = raw.unlinkat(dirfd, name);
    if (result >= 0 || result === -ENOENT) return;
    if (result !== -EISDIR && result !== -EPERM) this.metadata.check("unlinkat", result);
    // removeTree takes a path; this one leads through the descriptor, not through the names above it.
    removeTree(`/proc/self/fd/${dirfd}/${name}`);
  }

  /** The directory at a name, made when it is not there. */
  makeDirectory(parent: DirNode, name: ByteString, mode: number): { readonly node: DirNode; readonly isNew: boolean } {
    const child = parent.children.get(name);
    if (child instanceof DirNode && child.there) {
      this.enter(child);
      return { node: child, isNew: false };
    }
    const node = child instanceof DirNode ? child : new DirNode(parent, name);
    const isReplacing = typeof child === "number";
    if (isReplacing) this.clear(parent, name);
    const createMode = (mode & 0o777) | 0o700;
    let result = raw.mkdirat(this.tree.fdOf(parent), name, createMode);
    if (result === -EEXIST) {
      if (this.adopt(node)) {
        parent.children.set(name, node);
        this.enter(node);
        return { node, isNew: false };
      }
      this.clear(parent, name);
      result = raw.mkdirat(this.tree.fdOf(parent), name, createMode);
    }
    this.metadata.check("mkdirat", result);
    parent.children.set(name, node);
    node.there = true;
    node.own = true;
    node.actualMode = (createMode & ~this.metadata.umask) | (parent.actualMode & 0o2000);
    if (isReplacing) this.replaced(node);
    else this.created(node);
    return { node, isNew: true };
  }

  /** Gives a directory its metadata; mode, times and default ACL wait for {@link finish}. */
  setDirectory(node: DirNode, isNew: boolean, metadata: ObjectMetadata): void {
    const { mode, uid, gid, xattrs } = metadata;
    this.metadata.checkOwner(uid, gid);
    const [dirfd, name] = this.tree.at(node);
    if (!isNew || !this.metadata.isOwnByCreation(uid, gid, node.parent?.gid ?? -1))
      this.metadata.lchown(dirfd, name, uid, gid);
    node.gid = gid;
    node.mode = mode;
    node.mtimeSec = metadata.mtimeSec;
    node.mtimeNsec = metadata.mtimeNsec;
    if (!isNew) this.#removeXattrs(dirfd, name);
    node.defaultAcl = undefined;
    for (const [key, value] of xattrs) if (key === defaultAclName) node.defaultAcl = value;
    this.metadata.lsetxattrs(dirfd, name, xattrs);
    if (node === this.tree.root) this.rootIsExplicit = true;
  }

  /** Takes a directory's attributes away before an entry sets its own; those of the host and of overlay stay. */
  #removeXattrs(dirfd: number, name: ByteString): void {
    const names = raw.llistxattrat(dirfd, name);
    if (typeof names === "number") return;
    for (const key of names) if (this.isRemovable(key)) raw.lremovexattrat(dirfd, name, key);
  }

  /** True for an attribute that belongs to the object, not to the host or the overlay it lies on. */
  protected abstract isRemovable(xattr: ByteString): boolean;

  /** Once all entries are there: modes, default ACLs and times of directories, children before parents. */
  finish(): void {
    this.#finish(this.tree.root);
  }

  #finish(node: DirNode): void {
    for (const child of node.children.values()) if (child instanceof DirNode && child.there) this.#finish(child);
    this.metadata.subject = node.path === "" ? "/" : node.path;
    const [dirfd, name] = this.tree.at(node);
    // zfs-fuse takes setuid and setgid away from directories, too, when their owner is set.
    if (node.mode !== node.actualMode || (node.mode & 0o6000) !== 0) this.metadata.lchmod(dirfd, name, node.mode);
    if (node.defaultAcl !== undefined) this.metadata.lsetxattr(dirfd, name, defaultAclName, node.defaultAcl);
    if (node.mtimeSec !== undefined) this.metadata.utimens(dirfd, name, node.mtimeSec, node.mtimeNsec);
  }

  /** Links `name` to an object of the target or of the layers below. */
  link(source: Resolved, parent: DirNode, name: ByteString): void {
    const from = source.directory;
    const last = source.last;
    const child = last === undefined ? from : from.children.get(last);
    if (last === undefined || source.missing.length > 0 || child === leaf.whiteout) throw this.#noLinkTarget();
    if (child instanceof DirNode) throw this.#linkToDirectory();
    if (child === undefined) {
      const below = this.find(from, last);
      if (below === undefined) throw this.#noLinkTarget();
      if (below.type === "directory") throw this.#linkToDirectory();
      this.borrow(from, last);
    }
    if (from === parent && last === name) return;
    const place = (): number => {
      const [fromFd, toFd] = this.tree.fdsOf(from, parent);
      return raw.linkat(fromFd, last, toFd, name);
    };
    this.place(parent, name, "linkat", () => {
      const result = place();
      if (result !== -EMLINK) return result;
      this.#renew(this.tree.fdOf(from), last);
      return place();
    });
    parent.children.set(name, leaf.plain);
  }

  /** Puts a copy in the place of an object that takes no more names: other trees may have as many of them as there can be. */
  #renew(dirfd: number, name: ByteString): void {
    const stat = statx(dirfd, name);
    const copy = `.lamella-copy-${randomBytes(8).toString("hex")}`;
    copyObject(new FileCopier(), { fromFd: dirfd, name, toFd: dirfd, toName: copy, path: name, stat });
    renameat2(dirfd, copy, dirfd, name);
  }

  #noLinkTarget(): LamellaError {
    return new LamellaError(
      "invalid_argument",
      "TAR_LINK_TARGET",
      `${textOfBytes(this.metadata.subject)}: the hard link's target is neither in this layer before it nor below`,
    );
  }

  #linkToDirectory(): LamellaError {
    return new LamellaError(
      "invalid_argument",
      "TAR_LINK_TARGET",
      `${textOfBytes(this.metadata.subject)}: a hard link to a directory`,
    );
  }

  /** Default ACLs must not reach what is created meanwhile: C.S_IFDIR objects adopted from below lose theirs until the end. */
  protected takeDefaultAcl(node: DirNode): void {
    const [dirfd, name] = this.tree.at(node);
    const acl = raw.lgetxattrat(dirfd, name, defaultAclName);
    if (typeof acl === "number") return;
    node.defaultAcl = acl;
    raw.lremovexattrat(dirfd, name, defaultAclName);
  }

  /** Stats a directory of the target and plans to give its mode and times back at the end. */
  protected keepMetadata(node: DirNode): void {
    const [dirfd, name] = this.tree.at(node);
    const stat = raw.statx(dirfd, name, C.AT_SYMLINK_NOFOLLOW);
    if (typeof stat === "number") {
      this.metadata.check("statx", stat);
      return;
    }
    node.gid = stat.gid;
    node.actualMode = stat.mode & 0o7777;
    node.mode = node.actualMode;
    node.mtimeSec = stat.mtimeSec;
    node.mtimeNsec = stat.mtimeNsec;
    this.takeDefaultAcl(node);
  }
}
