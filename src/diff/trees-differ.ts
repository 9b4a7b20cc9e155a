/**
 * The changes between two plain trees. Compared object by object it is the naive diff: oracle of the native ones, and their
 * stand-in for drivers that have none. With a hint it looks at less, and gives the same tree.
 *
 * First it is found out what differs, in any order and by several threads (./find-changes.ts); then the names that differ
 * are read in the stream's order. A directory that did not change is emitted when something below it did, with its
 * metadata, since whoever unpacks a layer by itself needs it. The root is emitted only when its mode, owner or attributes
 * differ from the parent's (without a parent: from 0755, root, none): the time of a layer's root is that of unpacking.
 *
 * Both trees must be at rest. Objects of the layer's tree that vanish meanwhile count as deleted.
 *
 * Errors: failed_precondition (`INEXPRESSIBLE_NAME`) for a changed object whose name begins with `.wh.`.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import { sortedNames } from "../fs/walk.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, inodeKey, open, readlinkat, type Stat } from "../sys/syscalls.ts";
import type { Change, ObjectChange } from "./change.ts";
import { type FoundHint, findChanges, type Roots } from "./find-changes.ts";
import { checkLayerName } from "./layer-names.ts";
import type { TreesSource } from "./source.ts";
import { layerXattrs, openFile } from "./trees-content.ts";
import type { Difference } from "./trees-findings.ts";
import { namesToRelink } from "./trees-links.ts";
import { sameMetadata } from "./trees-rules.ts";

export interface TreesDifferOptions {
  /** The most threads that compare. Default: as many as there are processors, at most four. */
  readonly threads?: number | undefined;
  /** Called now and then; may throw to end the diff. */
  readonly throwIfCanceled?: (() => void) | undefined;
}

/** A directory with changes in it or below it. */
interface Node {
  readonly path: ByteString;
  readonly deleted: ByteString[];
  readonly changed: Map<ByteString, Difference>;
  readonly below: Map<ByteString, Node>;
}

/** A directory of the tree under way. `node` is undefined in a directory that is new as a whole. */
interface Frame {
  readonly path: ByteString;
  readonly fd: number;
  readonly node: Node | undefined;
  names: readonly ByteString[];
  next: number;
}

const OPEN_DIRECTORY = C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW;
const ENOENT = -2;

/** Reads the changes of `source`. One use; the descriptors it holds are closed when the walk ends or is abandoned. */
export class TreesDiffer {
  readonly #source: TreesSource;
  readonly #options: TreesDifferOptions;
  readonly #firstNames = new Map<string, ByteString>();
  /** Names looked at so far, those of both trees. */
  visited = 0;
  /** Why the source's hint was passed over; undefined when it was not, or there is none. */
  doubt: string | undefined;

  constructor(source: TreesSource, options: TreesDifferOptions = {}) {
    this.#source = source;
    this.#options = options;
  }

  *changes(): Generator<Change> {
    const { parent, tree, hint } = this.#source;
    if (hint?.kind === "none") return;
    using treeRoot = open(tree, OPEN_DIRECTORY);
    const stat = fstat(treeRoot.fd);
    if (parent === undefined) {
      const plain = (stat.mode & 0o7777) === 0o755 && stat.uid === 0 && stat.gid === 0;
      if (!plain || layerXattrs(treeRoot.fd, ".").length > 0) yield this.#root(treeRoot.fd, stat);
      yield* this.#emit(treeRoot.fd, undefined);
      return;
    }
    using parentRoot = open(parent, OPEN_DIRECTORY);
    const parentStat = fstat(parentRoot.fd);
    const root = this.#compare({ treeFd: treeRoot.fd, parentFd: parentRoot.fd }, hint);
    if (!sameMetadata({ fd: treeRoot.fd, stat }, { fd: parentRoot.fd, stat: parentStat }, ".")) {
      yield this.#root(treeRoot.fd, stat);
    }
    yield* this.#emit(treeRoot.fd, root);
  }

  #compare(roots: Roots, hint: FoundHint | undefined): Node {
    const { threads, throwIfCanceled } = this.#options;
    const { findings, doubt } = findChanges(roots, hint, { threads, check: throwIfCanceled ?? (() => undefined) });
    this.visited += findings.visited;
    this.doubt = doubt;

    const root = newNode("");
    for (const { path, deleted, changed } of findings.directories) {
      const node = nodeAt(root, path);
      node.deleted.push(...deleted.sort());
      for (const [name, difference] of changed) node.changed.set(name, difference);
    }
    for (const path of namesToRelink(findings.links)) {
      const cut = path.lastIndexOf("/");
      nodeAt(root, cut < 0 ? "" : path.slice(0, cut)).changed.set(path.slice(cut + 1), "modified");
    }
    return root;
  }

  /** Emits what `node` names, or all there is when it is undefined. */
  *#emit(rootFd: number, root: Node | undefined): Generator<Change> {
    const frames: Frame[] = [];
    try {
      yield* this.#enter(frames, rootFd, ".", "", root);
      for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
        this.#options.throwIfCanceled?.();
        const name = frame.names[frame.next++];
        if (name === undefined) {
          raw.close(frame.fd);
          frames.pop();
          continue;
        }
        const path = frame.path === "" ? name : `${frame.path}/${name}`;
        const stat = raw.statx(frame.fd, name);
        if (stat === ENOENT) continue;
        if (typeof stat === "number") throw new SyscallError("statx", -stat, textOfBytes(path));
        const type = stat.mode & C.S_IFMT;
        if (type === C.S_IFSOCK) continue;
        checkLayerName(name, path);
        const difference = frame.node === undefined ? "added" : (frame.node.changed.get(name) ?? "modified");
        yield this.#object(frame.fd, name, path, { stat, kind: difference === "added" ? "added" : "modified" });
        if (type !== C.S_IFDIR) continue;
        const whole = difference === "added" || difference === "replaced";
        const node = frame.node?.below.get(name);
        if (whole || node !== undefined) yield* this.#enter(frames, frame.fd, name, path, whole ? undefined : node);
      }
    } finally {
      for (const frame of frames) raw.close(frame.fd);
    }
  }

  /** Opens a directory and emits the deletions in it. */
  *#enter(
    frames: Frame[],
    dirFd: number,
    name: ByteString,
    path: ByteString,
    node: Node | undefined,
  ): Generator<Change> {
    const fd = raw.openat(dirFd, name, OPEN_DIRECTORY);
    if (fd === ENOENT) return;
    if (fd < 0) throw new SyscallError("openat", -fd, textOfBytes(path));
    const frame: Frame = { path, fd, node, names: [], next: 0 };
    frames.push(frame);
    if (node === undefined) {
      frame.names = sortedNames(fd, path);
      if (this.#source.parent === undefined) this.visited += frame.names.length;
      return;
    }
    frames[frames.length - 1] = {
      ...frame,
      names: [...new Set([...node.changed.keys(), ...node.below.keys()])].sort(),
    };
    for (const deleted of node.deleted) {
      const deletedPath = path === "" ? deleted : `${path}/${deleted}`;
      checkLayerName(deleted, deletedPath);
      yield { kind: "deleted", path: deletedPath };
    }
  }

  #root(fd: number, stat: Stat): ObjectChange {
    return { kind: "modified", path: "", stat, xattrs: layerXattrs(fd, ".") };
  }

  #object(
    dirFd: number,
    name: ByteString,
    path: ByteString,
    { stat, kind }: { readonly stat: Stat; readonly kind: ObjectChange["kind"] },
  ): ObjectChange {
    const type = stat.mode & C.S_IFMT;
    if (stat.nlink > 1 && type !== C.S_IFDIR) {
      const key = inodeKey(stat);
      const first = this.#firstNames.get(key);
      if (first !== undefined) return { kind, path, stat, xattrs: [], linkTo: first };
      this.#firstNames.set(key, path);
    }
    const xattrs = layerXattrs(dirFd, name);
    if (type === C.S_IFLNK) return { kind, path, stat, xattrs, linkTarget: readlinkat(dirFd, name) };
    if (type === C.S_IFREG) return { kind, path, stat, xattrs, open: () => openFile(dirFd, name) };
    return { kind, path, stat, xattrs };
  }
}

function newNode(path: ByteString): Node {
  return { path, deleted: [], changed: new Map(), below: new Map() };
}

/** The node of a path, made with all nodes on the way to it. */
function nodeAt(root: Node, path: ByteString): Node {
  let node = root;
  for (const name of path === "" ? [] : path.split("/")) {
    let next = node.below.get(name);
    if (next === undefined) {
      next = newNode(node.path === "" ? name : `${node.path}/${name}`);
      node.below.set(name, next);
    }
    node = next;
  }
  return node;
}
