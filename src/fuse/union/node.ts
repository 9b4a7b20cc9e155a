/**
 * Nodes: the objects of the merged view that the kernel has been told of, and the directories above them.
 *
 * A node is found by its ID, and by its name in its parent's `children`. An object of the upper layer with several names is
 * one node, which is found by its inode there. In a lower layer each name of a hard-linked file is a node of its own, since
 * copying one up breaks the link.
 *
 * A node stays while the kernel has loans of it or children of it are known, so that going from parent to parent always
 * tells where a node lies in the upper layer. Where its parts lie in lower layers never changes.
 */
import type { ByteString } from "../../lib/bytes.ts";
import type { DirectoryPart, Place } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import type { Stat } from "../../sys/syscalls.ts";
import { ROOT_NODE } from "../protocol.ts";

/** One of a node's names. */
export interface Name {
  readonly parent: Node;
  readonly name: ByteString;
}

export interface InodeNumber {
  readonly inoLow: number;
  readonly inoHigh: number;
}

/** Of all that is no directory. */
const childless = new Map<ByteString, Node>();

export class Node {
  id: number;
  /** S_IF constant. */
  readonly type: number;
  /** As seen in the mount; the same when the node is copied up, but where that makes a file of its own out of a hard link. */
  ino: InodeNumber;
  /** Loans of the kernel. */
  lookups = 0;
  /** Other IDs by which the kernel still knows it. */
  aliases = 0;
  /** Known names: one for a directory, none for the root and for what has been removed. */
  readonly names: Name[] = [];
  readonly children: Map<ByteString, Node>;
  /** It lies in the upper layer. */
  upper: boolean;
  /** What is merged into a directory, the upper's part first. */
  parts: DirectoryPart[];
  /** Where metadata lies while there is nothing in the upper layer. */
  readonly lower: Place | undefined;
  /** Where a file's content lies in lower layers; undefined when it lies in the upper one, as for everything else there. */
  data: Place | undefined;
  /** Of a directory in the upper layer, or of a removed object there; -1 when closed. */
  fd = -1;
  /** Under which it is found in `NodeTable.byUpperInode`. */
  upperKey: InodeKey | undefined;
  /** Of a file with several names below: its name in the index, where its copy is or will be (./inode-index.ts). */
  index: ByteString | undefined;
  /** With `index`: how many names the union has of it. */
  links = 0;
  /** The `impure` mark is known to be there. */
  impure = false;
  /** Its files have been passed through: the kernel's cache may hold what was before. */
  wasPassed = false;
  /** Its content has been put into the kernel's cache. */
  isStored = false;

  constructor(id: number, what: Pick<Node, "type" | "ino" | "upper" | "parts" | "lower" | "data">) {
    this.id = id;
    this.type = what.type;
    this.children = what.type === C.S_IFDIR ? new Map() : childless;
    this.ino = what.ino;
    this.upper = what.upper;
    this.parts = what.parts;
    this.lower = what.lower;
    this.data = what.data;
  }

  get isDirectory(): boolean {
    return this.type === C.S_IFDIR;
  }

  get isRegular(): boolean {
    return this.type === C.S_IFREG;
  }

  /** Its data lies further down than its metadata, which is in the upper layer. */
  get isMetacopy(): boolean {
    return this.upper && this.data !== undefined;
  }

  /** Nothing of it has a name any more. */
  get isRemoved(): boolean {
    return this.names.length === 0 && this.id !== ROOT_NODE;
  }

  /** A directory of which a part lies in a lower layer. */
  get isMergedOrLower(): boolean {
    return this.isDirectory ? this.parts.some((part) => !isUpperPart(part)) : !this.upper || this.isMetacopy;
  }
}

/** Parts in the upper layer are named by their node (./upper-layer.ts). */
export function isUpperPart(part: Place): boolean {
  return part.layer === 0 && part.path.startsWith("#");
}

/** An inode number as one value; a string where a number could not hold it exactly. */
type InodeKey = number | string;

export function upperKey({ inoLow, inoHigh }: Stat): InodeKey {
  return inoHigh < 2 ** 21 ? inoHigh * 2 ** 32 + inoLow : `${inoHigh}:${inoLow}`;
}

export class NodeTable implements Disposable {
  readonly #byId = new Map<number, Node>();
  /** Loans of IDs that nodes had before. */
  readonly #aliases = new Map<number, number>();
  readonly byUpperInode = new Map<InodeKey, Node>();
  /** Those of the index. */
  readonly byIndex = new Map<ByteString, Node>();
  #lastId = ROOT_NODE;
  /** Whiteouts of the upper layer are empty files with an attribute (./whiteouts.ts). */
  xattrWhiteouts = false;

  /** The part of a directory that lies in the upper layer. */
  upperPart(node: number): DirectoryPart {
    return { layer: 0, path: `#${node}`, xattrWhiteouts: this.xattrWhiteouts };
  }

  add(what: ConstructorParameters<typeof Node>[1]): Node {
    return this.#put(new Node(++this.#lastId, what));
  }

  addRoot(what: ConstructorParameters<typeof Node>[1]): Node {
    return this.#put(new Node(ROOT_NODE, what));
  }

  #put(node: Node): Node {
    this.#byId.set(node.id, node);
    return node;
  }

  /** The node the kernel means. It never asks for one it has no loan of. */
  get(id: number): Node {
    const node = this.#byId.get(id);
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  /**
   * Gives a node a new ID: the kernel, which is to hear of it at its next lookup, then has a new inode of it. The old ID goes
   * on meaning the same object until it is forgotten.
   */
  renew(node: Node): void {
    this.#aliases.set(node.id, node.lookups);
    node.aliases++;
    node.lookups = 0;
    node.id = ++this.#lastId;
    this.#byId.set(node.id, node);
  }

  isAlias(id: number): boolean {
    return this.#aliases.has(id);
  }

  /** Takes back loans of an ID; what the kernel knows by none any more is dropped. */
  forget(id: number, count: number): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    const ofAlias = this.#aliases.get(id);
    if (ofAlias === undefined) node.lookups -= count;
    else if (ofAlias > count) this.#aliases.set(id, ofAlias - count);
    else {
      this.#aliases.delete(id);
      this.#byId.delete(id);
      node.aliases--;
    }
    this.dropUnused(node);
  }

  /** From now on a file of the upper layer is found by its inode too. Only other names of it are looked for there. */
  setUpperKey(node: Node, stat: Stat): void {
    if (node.isDirectory || (stat.nlink === 1 && node.index === undefined)) return;
    node.upperKey = upperKey(stat);
    this.byUpperInode.set(node.upperKey, node);
  }

  addName(node: Node, parent: Node, name: ByteString): void {
    parent.children.set(name, node);
    node.names.push({ parent, name });
  }

  removeName(node: Node, parent: Node, name: ByteString): void {
    parent.children.delete(name);
    const at = node.names.findIndex((each) => each.parent === parent && each.name === name);
    if (at >= 0) node.names.splice(at, 1);
  }

  /** Lets go of a node that nobody needs, and of those above it that were kept for it alone. */
  dropUnused(node: Node): void {
    if (node.lookups > 0 || node.aliases > 0 || node.children.size > 0 || node.id === ROOT_NODE) return;
    this.#byId.delete(node.id);
    if (node.upperKey !== undefined && this.byUpperInode.get(node.upperKey) === node)
      this.byUpperInode.delete(node.upperKey);
    if (node.index !== undefined && this.byIndex.get(node.index) === node) this.byIndex.delete(node.index);
    if (node.fd >= 0) raw.close(node.fd);
    node.fd = -1;
    for (const { parent, name } of node.names) {
      if (parent.children.get(name) === node) parent.children.delete(name);
      this.dropUnused(parent);
    }
  }
  /** Closes what nodes have open: nobody asks for them any more. */
  [Symbol.dispose](): void {
    for (const node of this.#byId.values()) {
      if (node.fd >= 0) raw.close(node.fd);
      node.fd = -1;
    }
  }
}
