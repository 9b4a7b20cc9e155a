/**
 * The state of one mounted union: its layers, the nodes the kernel knows, and how these are found. What can be done with
 * them lies beside: ./copy-up.ts, ./create.ts, ./remove.ts, ./rename.ts, ./files.ts, ./attributes.ts.
 *
 *     upperdir/           what has changed, in the format of the kernel's overlayfs
 *     workdir/work/       objects in the making, `#1`, `#2`, …; emptied at every mount
 *         #whiteout       the whiteout of which all others are hard links
 *
 * One file, though long: finding a node, telling what it is and where it lies read and write the same private state in every
 * request, and a boundary within it would be crossed by each.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import type { AccessTimes } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { DirectoryPart, Layer, LayerEntry, MergedEntry, Place } from "../../overlayfs/layer.ts";
import type { MarkKind } from "../../overlayfs/layer-marks.ts";
import { LayerStack } from "../../overlayfs/layer-stack.ts";
import type { OverlayXattrPrefix } from "../../overlayfs/xattr-names.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Kernel, Owner } from "../file-system.ts";
import { diskId, type IdMap, shownId } from "./id-map.ts";
import { InodeIndex, indexName } from "./inode-index.ts";
import { type InodeNumber, type Node, NodeTable, upperKey } from "./node.ts";
import { openLower, openWork, type WritableFolders, writableFolders } from "./open-layers.ts";
import { originInode, originOf } from "./origin.ts";
import { applyRecord, beginRecords, RecordedLayer, type RecordName, recordNameOf } from "./records.ts";
import { canMakeWhiteouts } from "./shared-whiteout.ts";
import { UpperLayer } from "./upper-layer.ts";

/** What is mounted, and how. Paths are absolute. */
export interface UnionOptions {
  /** The uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly upper?: ByteString | undefined;
  /** On the file system of the upper; there with it. */
  readonly work?: ByteString | undefined;
  /** `user.overlay.` where `trusted.` attributes may not be set. */
  readonly prefix: OverlayXattrPrefix;
  /** Directories of lower layers can be renamed; else that is EXDEV. */
  readonly redirectDir: boolean;
  /** A change of metadata copies no data. */
  readonly metacopy: boolean;
  /** What counts: the kernel's marks alone, or those of fuse-overlayfs and AUFS, too. */
  readonly marks?: MarkKind;
  /** Hard links of lower layers stay one file when they are copied up. */
  readonly index?: boolean;
  /** Nothing is synced to disk, and a mark says so until someone takes it away. */
  readonly volatile?: boolean;
  /** Nothing is synced to disk, and nobody is told. */
  readonly unsynced?: boolean;
  /** Copies of metadata alone are synced, too, as before Linux 6.12 and with `fsync=strict`. */
  readonly strict?: boolean;
  /** The owners that are shown. */
  readonly users?: IdMap;
  readonly groups?: IdMap;
  /** When reading sets access times in the upper layer. */
  readonly accessTimes?: AccessTimes;
  /**
   * Where owners and modes are found: `any`, which is what counts when it is not given, in records where a layer keeps some
   * (./records.ts); `inodes`, there alone; 1 or 2, which kind of records the upper layer keeps.
   */
  readonly permissions?: "any" | "inodes" | 1 | 2;
}

const EROFS = 30;

/** The file systems of the layers are told apart in the uppermost byte of inode numbers. */
const DEVICE_SHIFT = 24;

/** Of all nodes that are no directories. */
const noParts: DirectoryPart[] = [];

/** Where an object of the upper layer is: a directory, and a name in it; or, with an empty name, the object itself. */
export type At = readonly [fd: number, name: ByteString];

export class Union implements Disposable {
  readonly options: UnionOptions;
  readonly nodes = new NodeTable();
  readonly upper: UpperLayer | undefined;
  readonly stack: LayerStack;
  readonly root: Node;
  /** The attribute in which the upper layer keeps owners and modes. */
  readonly record: RecordName | undefined;
  readonly #layers: readonly Layer[];
  readonly #workFd: sys.OwnedFd | undefined;
  readonly #index: InodeIndex | undefined;
  readonly #uuids: Buffer[] = [];
  readonly #layerRoots: (sys.Stat | undefined)[] = [];
  readonly #devices: (readonly [major: number, minor: number])[] = [];
  #lastTemporary = 0;
  #maker: Owner | undefined;
  #kernel: Kernel | undefined;
  /** What the last lookup has just seen; see `takeStat`. */
  #seenNode: Node | undefined;
  #seenStat: sys.Stat | undefined;

  /** Errors: SyscallError when a layer cannot be opened. */
  constructor(options: UnionOptions) {
    this.options = options;
    const { lowers, prefix } = options;
    const layers: Layer[] = [];
    this.#layers = layers;
    try {
      using folders = foldersOf(options);
      if (folders !== undefined) {
        this.upper = new UpperLayer(folders.upper.at, this.nodes);
        layers.push(this.upper);
        this.#workFd = openWork(folders.work, options.volatile ?? false);
        this.nodes.xattrWhiteouts = !canMakeWhiteouts(this.#workFd.fd);
      }
      for (const lower of lowers) layers.push(openLower(lower, prefix));
      this.record = this.#openRecords(layers);
      if (options.index && folders !== undefined) this.#index = this.#openIndex(folders);
      this.stack = new LayerStack(layers, options.marks === undefined ? { prefix } : { prefix, marks: options.marks });
    } catch (error) {
      this.#close();
      throw error;
    }
    const { stat, parts } = this.stack.root;
    const own = this.upper === undefined ? parts : [this.nodes.upperPart(1), ...parts.slice(1)];
    this.root = this.nodes.addRoot({
      type: C.S_IFDIR,
      ino: this.inodeNumber(stat),
      upper: this.upper !== undefined,
      parts: [...own],
      lower: this.upper === undefined ? { layer: 0, path: "" } : undefined,
      data: undefined,
    });
    this.root.lookups = 1;
  }

  /** Layers with records are replaced by what these show. */
  #openRecords(layers: Layer[]): RecordName | undefined {
    const { permissions = "any" } = this.options;
    if (permissions === "inodes") return undefined;
    const { upper } = this;
    const lowers = upper === undefined ? layers : layers.slice(1);
    let record = upper && recordNameOf(upper);
    if (upper !== undefined && permissions !== "any") record = beginRecords(upper, upper.rootFd, lowers, permissions);
    for (const [index, layer] of layers.entries()) {
      const name = layer === upper ? record : recordNameOf(layer);
      if (name !== undefined) layers[index] = new RecordedLayer(layer, name);
    }
    return record;
  }

  #openIndex({ work, upper }: WritableFolders): InodeIndex {
    using own = sys.open(upper.at, C.O_RDONLY | C.O_DIRECTORY);
    const lower = this.originAt({ layer: 1, path: "" });
    return new InodeIndex(work, { upper: own.fd, lower: lower ?? Buffer.alloc(0) }, (name) => this.mark(name));
  }

  [Symbol.dispose](): void {
    this.nodes[Symbol.dispose]();
    this.#close();
  }

  #close(): void {
    this.#index?.[Symbol.dispose]();
    this.#workFd?.[Symbol.dispose]();
    for (const layer of this.#layers) layer[Symbol.dispose]();
  }

  layer(index: number): Layer {
    const layer = this.#layers[index];
    if (layer === undefined) throw new LamellaError("internal", "NO_SUCH_LAYER", `layer ${index}`);
    return layer;
  }

  /** The directory for what is in the making. Errors: SyscallError EROFS without an upper. */
  get workFd(): number {
    return (this.#workFd ?? readOnly()).fd;
  }

  /** Where there is one; nodes with a name in it come from nowhere else. */
  get index(): InodeIndex {
    return this.#index ?? readOnly();
  }

  /** The origin that a copy of an object of a lower layer has; undefined where its file system has no file handles. */
  originAt(place: Place): Buffer | undefined {
    using object = this.layer(place.layer).openPath(place.path);
    if (object === undefined) return undefined;
    const value = originOf(object.fd, this.#uuid(place.layer));
    return value.length > 0 ? value : undefined;
  }

  /** Of the file system of a layer; empty where it has none. */
  #uuid(layer: number): Buffer {
    const known = this.#uuids[layer];
    if (known !== undefined) return known;
    using path = this.layer(layer).openPath("");
    using root = sys.open(`/proc/self/fd/${path?.fd}`, C.O_RDONLY | C.O_DIRECTORY);
    const told = raw.fileSystemUuid(root.fd);
    const uuid = typeof told === "number" ? Buffer.alloc(0) : Buffer.from(told);
    this.#uuids[layer] = uuid;
    return uuid;
  }

  /** Whose what is made in the work directory is at first. Errors: SyscallError EROFS without an upper. */
  get maker(): Owner {
    this.#maker ??= sys.fstat(this.workFd);
    return this.#maker;
  }

  get writable(): UpperLayer {
    return this.upper ?? readOnly();
  }

  /** What is known of an object of the upper layer. */
  statAt([fd, name]: At): sys.Stat {
    const stat = sys.statx(fd, name, name === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW);
    if (this.record === undefined) return stat;
    const record = name === "" ? sys.fgetxattr(fd, this.record) : sys.lgetxattrat(fd, name, this.record);
    return applyRecord(stat, record);
  }

  /** Whoever wants data on disk gets it there. */
  get syncs(): boolean {
    return !this.options.volatile && !this.options.unsynced;
  }

  mounted(kernel: Kernel): void {
    this.#kernel = kernel;
  }

  /** Change time and link count of a node have changed by its copy-up, of which the kernel does not know. */
  attributesChanged(node: Node): void {
    if (node.lookups > 0) this.#kernel?.attributesChanged(node.id);
  }

  /** A name in the work directory that nothing has. */
  temporaryName(): ByteString {
    return `#${(++this.#lastTemporary).toString(16)}`;
  }

  /** The name of overlay's own attribute. */
  mark(name: string): ByteString {
    return this.options.prefix + name;
  }

  /** A directory as overlay semantics ask for it. */
  entryOf(node: Node, parts: readonly DirectoryPart[] = node.parts): MergedEntry {
    const { root } = this.stack;
    return { path: "", stat: root.stat, place: root.place, data: root.data, parts };
  }

  /** The child of that name, and what is known of it; undefined when there is none. It is lent to nobody yet. */
  find(parent: Node, name: ByteString): Node | undefined {
    this.#seenNode = undefined;
    const known = parent.children.get(name);
    if (known !== undefined) return known;
    const entry = this.stack.lookupIn(this.entryOf(parent), name);
    return entry === undefined ? undefined : this.#nodeOf(entry, parent, name);
  }

  #nodeOf(entry: MergedEntry, parent: Node, name: ByteString): Node {
    const { stat, place, data } = entry;
    const upper = this.upper !== undefined && place.layer === 0;
    const type = stat.mode & C.S_IFMT;
    const mayBeLinked = upper && type !== C.S_IFDIR && stat.nlink > 1;
    const linked = mayBeLinked ? this.nodes.byUpperInode.get(upperKey(stat)) : undefined;
    if (linked !== undefined) {
      this.nodes.addName(linked, parent, name);
      return linked;
    }
    if (this.#index !== undefined && type !== C.S_IFDIR && !upper && stat.nlink > 1) {
      const indexed = this.#indexedNode(this.#index, entry, { type, parent, name });
      if (indexed !== undefined) return indexed;
    }
    const lowerData = upper && data.layer === place.layer ? undefined : data;
    const node = this.nodes.add({
      type,
      ino: this.#visibleInode(entry, upper),
      upper,
      parts: type === C.S_IFDIR ? [...entry.parts] : noParts,
      lower: upper ? undefined : place,
      data: type === C.S_IFREG ? lowerData : undefined,
    });
    if (upper && node.isDirectory) node.parts[0] = this.nodes.upperPart(node.id);
    if (upper) this.nodes.setUpperKey(node, stat);
    this.see(node, stat);
    if (upper && this.#index !== undefined && stat.nlink > 1 && type !== C.S_IFDIR)
      this.#recognise(this.#index, node, entry);
    this.nodes.addName(node, parent, name);
    return node;
  }

  /** The node of a file with several names below, which they share; undefined where it has no file handle. */
  #indexedNode(
    index: InodeIndex,
    { place, data, stat }: MergedEntry,
    at: { readonly type: number; readonly parent: Node; readonly name: ByteString },
  ): Node | undefined {
    const origin = this.originAt(place);
    if (origin === undefined) return undefined;
    const own = indexName(origin);
    const copy = index.find(own);
    const known = this.nodes.byIndex.get(own) ?? (copy && this.nodes.byUpperInode.get(upperKey(copy)));
    if (known !== undefined) {
      this.nodes.addName(known, at.parent, at.name);
      return known;
    }
    const isRegular = at.type === C.S_IFREG;
    const isHere = copy !== undefined && (!isRegular || !this.#isMetacopy(index, own));
    const node = this.nodes.add({
      type: at.type,
      ino: this.inodeNumber(stat),
      upper: copy !== undefined,
      parts: [],
      lower: copy === undefined ? place : undefined,
      data: isRegular && !isHere ? data : undefined,
    });
    node.index = own;
    node.links = copy === undefined ? stat.nlink : index.links(own, copy.nlink, stat.nlink);
    this.nodes.byIndex.set(own, node);
    if (copy !== undefined) this.nodes.setUpperKey(node, copy);
    this.nodes.addName(node, at.parent, at.name);
    return node;
  }

  #isMetacopy(index: InodeIndex, name: ByteString): boolean {
    return sys.lgetxattrat(index.fd, name, this.mark("metacopy")) !== undefined;
  }

  /** A file of the upper layer that is one of the index. */
  #recognise(index: InodeIndex, node: Node, { place, stat }: MergedEntry): void {
    const origin = this.layer(0).getxattr(place.path, this.mark("origin"));
    if (origin === undefined || origin.length === 0) return;
    const own = indexName(origin);
    const copy = index.find(own);
    if (copy === undefined || upperKey(copy) !== upperKey(stat)) return;
    node.index = own;
    // Links below are not counted again: what the kernel writes is relative to the upper ones but during a copy-up.
    node.links = index.links(own, copy.nlink, copy.nlink);
    this.nodes.byIndex.set(own, node);
  }

  /** A name of an indexed file is about to come (1) or go (-1), together with a link of its copy. */
  linksChange(node: Node, change: 1 | -1): void {
    if (node.index === undefined || !node.upper) return;
    const { nlink } = this.#upperStat(node);
    this.index.setLinks(node.index, node.links, nlink);
    node.links += change;
  }

  /** After the last name of an indexed file has gone. */
  dropFromIndex(node: Node): void {
    if (node.index === undefined || node.links > 0) return;
    this.index.remove(node.index);
    this.nodes.byIndex.delete(node.index);
    node.index = undefined;
  }

  /** That of what was copied up, as long as it can be told. */
  #visibleInode(entry: MergedEntry, upper: boolean): InodeNumber {
    if (!upper) return this.inodeNumber(entry.stat);
    const below = entry.parts[1];
    if (below !== undefined) {
      const stat = this.stack.statPlace(below);
      if (stat !== undefined) return this.inodeNumber(stat);
    }
    const origin = this.layer(0).getxattr(entry.place.path, this.mark("origin"));
    const number = origin && originInode(origin);
    // Lower layers mostly lie on one file system.
    const lowerRoot = this.#layers[1]?.stat("");
    return this.inodeNumber(number && lowerRoot ? { ...lowerRoot, ...number } : entry.stat);
  }

  inodeNumber(stat: sys.Stat): InodeNumber {
    const { devMajor, devMinor } = stat;
    const devices = this.#devices;
    let index = 0;
    while (index < devices.length && (devices[index]?.[0] !== devMajor || devices[index]?.[1] !== devMinor)) index++;
    if (index === devices.length) devices.push([devMajor, devMinor]);
    return { inoLow: stat.inoLow, inoHigh: (stat.inoHigh | (index << DEVICE_SHIFT)) >>> 0 };
  }

  /**
   * True when the listing of a layer tells the type and the inode number that the mount shows, as of all that lies in a lower
   * one. In the upper layer the number may be that of a copy.
   */
  tellsInode({ layer, type }: LayerEntry): boolean {
    return type !== C.DT_UNKNOWN && (layer > 0 || this.upper === undefined);
  }

  /** The number of an entry that tells it. */
  listedInode({ layer, inoLow, inoHigh }: LayerEntry): InodeNumber {
    this.#layerRoots[layer] ??= this.layer(layer).stat("");
    const root = this.#layerRoots[layer] ?? this.stack.root.stat;
    return this.inodeNumber({ ...root, inoLow, inoHigh });
  }

  /** Where a node of the upper layer lies. */
  at(node: Node): At {
    const upper = this.writable;
    if (node.isDirectory) return [upper.directory(node), "."];
    if (node.index !== undefined) return [this.index.fd, node.index];
    const name = node.names[0];
    return name === undefined ? [node.fd, ""] : [upper.directory(name.parent), name.name];
  }

  /** What was seen of an object in this request; `takeStat` need not ask again. */
  see(node: Node, stat: sys.Stat): void {
    this.#seenNode = node;
    this.#seenStat = stat;
  }

  /** As `stat`, right after `find` or the making of the object in the same request: what these have seen is still true. */
  takeStat(node: Node): sys.Stat {
    const seen = this.#seenNode === node ? this.#seenStat : undefined;
    this.#seenNode = undefined;
    return seen === undefined ? this.stat(node) : this.#visibleStat(node, seen);
  }

  /** What is known of an object, its inode number as seen in the mount. */
  stat(node: Node): sys.Stat {
    return this.#visibleStat(node, node.upper ? this.#upperStat(node) : this.#placeStat(node.lower));
  }

  /** When the object that is seen was made: that of the upper layer, after a copy-up. */
  birthTime(node: Node): readonly [number, number] | undefined {
    if (!node.upper) return node.lower && this.layer(node.lower.layer).birthTime(node.lower.path);
    const [fd, name] = this.at(node);
    return sys.birthTime(fd, name, name === "" ? C.AT_EMPTY_PATH : C.AT_SYMLINK_NOFOLLOW);
  }

  /** As `stat`, of what is to be copied up: the owner as it is on disk. */
  diskStat(node: Node): sys.Stat {
    if (node.upper) return this.stat(node);
    const stat = this.#placeStat(node.lower);
    const { uid, gid } = stat;
    return { ...this.#visibleStat(node, stat), uid, gid };
  }

  /** Changes `stat` into what the mount shows. Nobody else has it any more: one object less for each lookup. */
  #visibleStat(node: Node, stat: sys.Stat): sys.Stat {
    const shown: { -readonly [Key in keyof sys.Stat]: sys.Stat[Key] } = stat;
    const { inoLow, inoHigh } = node.ino;
    const { users, groups } = this.options;
    shown.nlink = linkCount(node, stat);
    shown.inoLow = inoLow;
    shown.inoHigh = inoHigh;
    if (users !== undefined) shown.uid = shownId(users, stat.uid);
    if (groups !== undefined) shown.gid = shownId(groups, stat.gid);
    if (node.isMetacopy) shown.blocks = this.#placeStat(node.data).blocks;
    return shown;
  }

  /** The owner to be stored for one that is shown. Errors: SyscallError EINVAL where there is none. */
  diskOwner({ uid, gid }: Owner): Owner {
    const { users, groups } = this.options;
    return {
      uid: users === undefined ? uid : diskId(users, uid),
      gid: groups === undefined ? gid : diskId(groups, gid),
    };
  }

  #upperStat(node: Node): sys.Stat {
    return this.statAt(this.at(node));
  }

  #placeStat(place: Place | undefined): sys.Stat {
    const stat = place && this.stack.statPlace(place);
    if (stat === undefined) throw new LamellaError("data_loss", "LAYER_CHANGED", "an object of a lower layer is gone");
    return stat;
  }
}

/**
 * A merged directory's link count would have to count the subdirectories of all its parts, and is 1. A file below does not
 * learn that its name was taken away.
 */
function linkCount(node: Node, stat: sys.Stat): number {
  if (node.index !== undefined) return node.links;
  if (node.isDirectory) return node.parts.length > 1 ? 1 : stat.nlink;
  return node.isRemoved && !node.upper ? stat.nlink - 1 : stat.nlink;
}

function readOnly(): never {
  throw new SyscallError("open", EROFS);
}

function foldersOf({ upper, work, accessTimes }: UnionOptions): WritableFolders | undefined {
  if (upper === undefined || work === undefined) return undefined;
  return writableFolders(upper, work, accessTimes ?? { files: "relatime", directories: true });
}
