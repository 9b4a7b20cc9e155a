/**
 * The tree that a layer is written into, as far as the layer has touched it: which names the layer has written, which
 * directories of the layers below were walked through, and a descriptor for each directory in use.
 *
 * Nothing is ever followed by the kernel. Every call takes the descriptor of a directory (O_PATH | O_NOFOLLOW, opened one
 * component below its parent) and a single component, so that whatever another process does to the tree meanwhile, a call
 * acts in a directory of this tree or fails. Symbolic links and `..` are followed here, in the merged view, with the root
 * as their limit: `..` of the root is the root, an absolute target starts at the root.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import type { MergedEntry } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";

/** A name the layer has written that is not a directory; a value of 0 or more is the ordinal of its payload. */
export const leaf = {
  /** Anything without a payload of its own: empty file, hard link, symbolic link, device, fifo. */
  plain: -1,
  /** A whiteout device: the name is gone. */
  whiteout: -2,
  /** Something of a layer below, brought here only so that it can be linked to; not the layer's own. */
  borrowed: -3,
} as const;

/** What the layers below still show in a directory; `unknown` is answered by the parent when first needed. */
export type Below = "unknown" | "none" | "in place" | MergedEntry;

/** A directory that the layer has written, or walked through. */
export class DirNode {
  readonly parent: DirNode | undefined;
  readonly name: ByteString;
  /** Canonical path in the merged view; the root is "". */
  readonly path: ByteString;
  readonly children = new Map<ByteString, DirNode | number>();
  below: Below = "unknown";
  /** It is in the target, with metadata to be set at the end; otherwise it was only looked at. */
  there = false;
  /** It is the layer's own or holds something that is; no deletion concerns it. */
  own = false;
  /** Descriptor while it is in the cache. */
  fd = -1;
  gid = 0;
  /** Mode on disk as far as known, and the one it gets at the end. */
  actualMode = 0;
  mode = 0;
  /** Times it gets at the end; undefined: whatever they are. */
  mtimeSec: number | undefined = undefined;
  mtimeNsec = 0;
  /** Set at the end, because names created in the directory would inherit it. */
  defaultAcl: Uint8Array | undefined = undefined;

  constructor(parent: DirNode | undefined, name: ByteString) {
    this.parent = parent;
    this.name = name;
    this.path = parent === undefined || parent.path === "" ? name : `${parent.path}/${name}`;
  }

  /** The path of a child in the merged view. */
  pathOf(name: ByteString): ByteString {
    return this.path === "" ? name : `${this.path}/${name}`;
  }
}

/** What is below at a name: a directory to walk into, a link to follow, or something else. */
export type FoundBelow =
  | { readonly type: "directory"; readonly below: Below }
  | { readonly type: "symlink"; readonly target: ByteString }
  | { readonly type: "other" };

/** Answers what the layers below show; the two kinds of target differ in it. */
export interface BelowView {
  find(directory: DirNode, name: ByteString): FoundBelow | undefined;
}

/** Where a path leads: the deepest directory there is, the directories missing below it, and the last component. */
export interface Resolved {
  readonly directory: DirNode;
  readonly missing: readonly ByteString[];
  /** Undefined when the path names `directory` itself. */
  readonly last: ByteString | undefined;
}

const ENOENT = 2;
const EINVAL = 22;
const ENAMETOOLONG = 36;
const ELOOP = 40;
/** As the kernel follows at most. */
const maxLinks = 40;
/** A path that could not be given to the kernel whole would be out of reach for most programs. */
const maxPathBytes = 4095;
const noNames: readonly ByteString[] = [];

/** Directories by path, and a bounded number of descriptors for them. */
export class ApplyTree implements Disposable {
  readonly root = new DirNode(undefined, "");
  readonly #view: BelowView;
  readonly #maxFds: number;
  /** Directories with an open descriptor, the one used longest ago first. */
  readonly #open = new Set<DirNode>();
  #lastUsed: DirNode | undefined;
  #pinned: DirNode | undefined;
  #lastParent: ByteString | undefined;
  #lastResolved: DirNode | undefined;

  /** `root`: absolute path of an existing directory. */
  constructor(root: ByteString, view: BelowView, maxFds = 128) {
    this.#view = view;
    this.#maxFds = maxFds;
    this.root.fd = raw.openat(C.AT_FDCWD, root, C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW);
    if (this.root.fd < 0) throw new SyscallError("openat", -this.root.fd, textOfBytes(root));
    this.root.there = true;
    this.root.own = true;
  }

  [Symbol.dispose](): void {
    for (const directory of this.#open) raw.close(directory.fd);
    this.#open.clear();
    if (this.root.fd >= 0) raw.close(this.root.fd);
    this.root.fd = -1;
  }

  /** A descriptor of the directory, valid until the next call of this method. Errors: SyscallError. */
  fdOf(directory: DirNode): number {
    if (directory === this.#lastUsed || directory.fd >= 0) {
      if (directory !== this.#lastUsed && directory !== this.root) {
        this.#open.delete(directory);
        this.#open.add(directory);
        this.#lastUsed = directory;
      }
      return directory.fd;
    }
    const parent = this.fdOf(directory.parent as DirNode);
    const fd = raw.openat(parent, directory.name, C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW);
    if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(directory.path));
    directory.fd = fd;
    this.#open.add(directory);
    this.#lastUsed = directory;
    if (this.#open.size > this.#maxFds) for (const oldest of this.#open) if (this.#evict(oldest)) break;
    return fd;
  }

  /** Descriptors of two directories, valid until the next call of this method or of `fdOf`. */
  fdsOf(one: DirNode, other: DirNode): [number, number] {
    const first = this.fdOf(one);
    this.#pinned = one;
    try {
      return [first, this.fdOf(other)];
    } finally {
      this.#pinned = undefined;
    }
  }

  /** What names the directory itself in calls that take a descriptor and a name. */
  at(directory: DirNode): [number, ByteString] {
    return directory.parent === undefined ? [this.root.fd, "."] : [this.fdOf(directory.parent), directory.name];
  }

  #evict(directory: DirNode): boolean {
    if (directory === this.#lastUsed || directory === this.#pinned) return false;
    this.#open.delete(directory);
    raw.close(directory.fd);
    directory.fd = -1;
    return true;
  }

  /** Forgets a directory and all below it: it is being removed. */
  forget(directory: DirNode): void {
    for (const child of directory.children.values()) if (typeof child !== "number") this.forget(child);
    if (directory.fd >= 0) raw.close(directory.fd);
    directory.fd = -1;
    this.#open.delete(directory);
    if (this.#lastUsed === directory) this.#lastUsed = undefined;
    this.invalidate();
  }

  /** Must be called when a name that was there has been removed or replaced. */
  invalidate(): void {
    this.#lastParent = undefined;
  }

  /**
   * Resolves a name of an archive. The last component is never followed. Errors: ELOOP, ENAMETOOLONG (paths beyond
   * PATH_MAX), SyscallError.
   */
  resolve(name: ByteString): Resolved {
    let end = name.length;
    while (end > 0 && name.charCodeAt(end - 1) === 0x2f) end--;
    const slash = name.lastIndexOf("/", end - 1);
    const last = name.slice(slash + 1, end);
    if (last === "" || last === "." || last === "..") {
      const whole = this.#walk(name.slice(0, end));
      return { ...whole, last: undefined };
    }
    const parent = slash <= 0 ? "" : name.slice(0, slash);
    if (parent === this.#lastParent && this.#lastResolved !== undefined)
      return { directory: this.#lastResolved, missing: noNames, last };
    const { directory, missing } = this.#walk(parent);
    if (missing.length === 0) {
      this.#lastParent = parent;
      this.#lastResolved = directory;
    }
    let length = directory.path.length + last.length + 2;
    for (const component of missing) length += component.length + 1;
    if (length > maxPathBytes) throw new SyscallError("resolve", ENAMETOOLONG, textOfBytes(name.slice(0, 100)));
    return { directory, missing, last };
  }

  /** Walks a path of directories, following links; stops where nothing is. */
  #walk(path: ByteString): { readonly directory: DirNode; readonly missing: readonly ByteString[] } {
    let directory = this.root;
    const missing: ByteString[] = [];
    // A stack: the next component is the last element.
    const todo = path.split("/").reverse();
    let links = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (missing.length > 0) missing.pop();
        else directory = directory.parent ?? this.root;
        continue;
      }
      if (missing.length > 0) {
        missing.push(name);
        continue;
      }
      const found = this.#find(directory, name);
      if (found === undefined) missing.push(name);
      else if (typeof found !== "string") directory = found;
      else {
        if (++links > maxLinks) throw new SyscallError("resolve", ELOOP, textOfBytes(path));
        if (found.startsWith("/")) directory = this.root;
        for (const component of found.split("/").reverse()) todo.push(component);
      }
    }
    return { directory, missing };
  }

  /** The directory at a name, the target of a symbolic link there, or undefined for nothing and for what is neither. */
  #find(directory: DirNode, name: ByteString): DirNode | ByteString | undefined {
    const child = directory.children.get(name);
    if (child === undefined) {
      const found = this.#view.find(directory, name);
      if (found === undefined || found.type === "other") return undefined;
      if (found.type === "symlink") return found.target;
      const node = new DirNode(directory, name);
      node.below = found.below;
      directory.children.set(name, node);
      return node;
    }
    if (typeof child !== "number") return child;
    if (child === leaf.whiteout || child >= 0) return undefined;
    const target = raw.readlinkat(this.fdOf(directory), name);
    if (typeof target === "string") return target;
    if (target === -EINVAL || target === -ENOENT) return undefined;
    throw new SyscallError("readlinkat", -target, textOfBytes(directory.pathOf(name)));
  }
}
