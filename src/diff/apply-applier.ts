/**
 * The applier: a synchronous state machine that writes a layer tar into a target, entry by entry as the bytes come, and
 * tells a record what it would take to make the tar again. It runs where blocking is allowed (a worker thread).
 *
 * What is refused, with an error that names the entry: whiteouts of no name (`.wh.`, `.wh..`, `.wh...`), other names with a
 * component that begins `.wh.`, an entry for the root that is no directory, a character device 0:0 (it would be a whiteout),
 * types no file system has, owners chown cannot express, hard links to nothing or to directories. What is contained: `..`
 * and absolute names, and links pointing anywhere (see ./apply-tree.ts). What is left out: the leftovers of aufs
 * (`.wh..wh.plnk` and so on) and overlay's own attributes; the record has the bytes of all that.
 *
 * When anything fails, the target is left as it is at that moment and of no use; whoever made it removes it.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import type { LayerStack } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { type SparseRegion, shownName, type TarEntry } from "../tar/entry.ts";
import { type TarHandler, TarReader } from "../tar/reader.ts";
import { type ContentDonor, Donor } from "./apply-donor.ts";
import { InPlaceTarget } from "./apply-in-place.ts";
import type { MetadataWriter } from "./apply-metadata.ts";
import { OverlayTarget } from "./apply-overlay.ts";
import { Spill } from "./apply-spill.ts";
import type { TargetTree } from "./apply-target.ts";
import { type DirNode, leaf, type Resolved } from "./apply-tree.ts";
import type { ApplyTarget } from "./source.ts";
import { type FrameSink, type Move, TarRecordEncoder } from "./tar-record-format.ts";

const EINTR = 4;
const EPERM = 1;
const EXDEV = 18;
const EMLINK = 31;
const whiteoutPrefix = ".wh.";
const aufsPrefix = ".wh..wh.";
const opaqueName = ".wh..wh..opq";

export interface LayerApplierOptions {
  readonly target: ApplyTarget;
  /** Where contents that the layer itself replaces are kept; made when needed. */
  readonly spillDir: ByteString;
  /** Takes the operations of the tar record. */
  readonly record: FrameSink;
  /** Opens the merged lower layers, waiting until they are complete. */
  readonly openLower: () => LayerStack;
  /** A place that may have the files already. */
  readonly donor?: ContentDonor | undefined;
}

/** What a layer held. */
export interface AppliedLayer {
  /** Objects and deletions. */
  readonly entries: number;
  /** Contents that later entries replaced. */
  readonly moves: readonly Move[];
  /** Attributes that this host cannot keep. */
  readonly skippedXattrs: number;
  /** Bytes of files that share their data with the donor's. */
  readonly sharedBytes: number;
}

export class LayerApplier implements TarHandler, Disposable {
  readonly #reader: TarReader;
  readonly #encoder: TarRecordEncoder;
  readonly #target: TargetTree;
  readonly #metadata: MetadataWriter;
  readonly #spill: Spill;
  readonly #donor: Donor | undefined;
  #sharedBytes = 0;
  #entries = 0;
  #payloads = 0;

  /** The regular file being written; the payload of all else goes into the record. */
  #fd = -1;
  #parent: DirNode | undefined;
  #last: ByteString = "";
  #mode = 0;
  #sparse: readonly SparseRegion[] | undefined;
  /** Where in a sparse file the next byte goes. */
  #region = 0;
  #inRegion = 0;

  constructor(options: LayerApplierOptions) {
    const { target } = options;
    this.#spill = new Spill(options.spillDir);
    this.#target =
      target.whiteouts === "remove"
        ? new InPlaceTarget(target.root, this.#spill)
        : new OverlayTarget(target, this.#spill, options.openLower);
    this.#metadata = this.#target.metadata;
    this.#encoder = new TarRecordEncoder(options.record);
    this.#reader = new TarReader(this);
    this.#donor = options.donor && new Donor(options.donor);
  }

  /** Applies the next bytes of the tar. Errors: LamellaErrors that name the entry. */
  push(chunk: Uint8Array): void {
    this.#reader.push(chunk);
  }

  /** Ends the tar, sets what had to wait, and completes the record's operations. */
  end(): AppliedLayer {
    this.#reader.end();
    this.#encoder.end();
    this.#target.finish();
    const { moves } = this.#spill;
    const { skippedXattrs } = this.#metadata;
    return { entries: this.#entries, moves, skippedXattrs, sharedBytes: this.#sharedBytes };
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) raw.close(this.#fd);
    this.#fd = -1;
    this.#target[Symbol.dispose]();
    this.#spill[Symbol.dispose]();
    this.#donor?.[Symbol.dispose]();
  }

  // ---- what the reader delivers

  raw(bytes: Uint8Array): void {
    this.#encoder.raw(bytes);
  }

  entry(entry: TarEntry): void {
    this.#metadata.subject = entry.name;
    this.#entries++;
    if (this.#isMark(entry)) return;
    switch (entry.type) {
      case "file":
        this.#beginFile(entry);
        return;
      case "directory":
        this.#directory(entry);
        return;
      case "symlink":
        this.#symlink(entry);
        return;
      case "hardlink":
        this.#hardlink(entry);
        return;
      case "char":
      case "block":
      case "fifo":
        this.#device(entry);
        return;
      case "unknown":
        throw this.#refuse("TAR_TYPE", `an object of the type ${shownName(String.fromCharCode(entry.typeflag))}`);
      default:
        entry.type satisfies never;
    }
  }

  data(bytes: Uint8Array): void {
    if (this.#donor?.isOpen) this.#compare(bytes);
    else if (this.#fd < 0) this.#encoder.raw(bytes);
    else if (this.#sparse === undefined) this.#write(bytes);
    else this.#writeSparse(bytes, this.#sparse);
  }

  endEntry(entry: TarEntry): void {
    if (this.#donor?.isOpen) this.#endShared(entry);
    if (this.#fd >= 0) this.#endFile(entry);
  }

  // ---- deletions

  /** Acts on names that mean something to layers, not to the tree. False for all others. */
  #isMark(entry: TarEntry): boolean {
    if (!entry.name.includes(whiteoutPrefix)) return false;
    const components = entry.name.split("/").filter((name) => name !== "" && name !== ".");
    const last = components.pop() ?? "";
    for (const component of components) {
      if (component.startsWith(aufsPrefix)) return true;
      if (component.startsWith(whiteoutPrefix)) throw this.#refuse("TAR_WHITEOUT", "a whiteout as a directory");
    }
    if (!last.startsWith(whiteoutPrefix)) return false;
    if (last === opaqueName) {
      const { directory, missing } = this.#resolveParent(entry);
      if (missing.length === 0) this.#target.hide(directory);
      return true;
    }
    if (last.startsWith(aufsPrefix)) return true;
    const name = last.slice(whiteoutPrefix.length);
    if (name === "" || name === "." || name === "..") throw this.#refuse("TAR_WHITEOUT", "a whiteout of no name");
    const { directory, missing } = this.#resolveParent(entry);
    if (missing.length === 0) this.#target.erase(directory, name);
    return true;
  }

  #resolveParent(entry: TarEntry): Resolved {
    return this.#target.tree.resolve(entry.name);
  }

  // ---- objects

  /** Resolves the name of an object that is no directory and makes the directories on the way to it. */
  #placeFor(entry: TarEntry): { readonly parent: DirNode; readonly last: ByteString } {
    this.#metadata.checkOwner(entry.uid, entry.gid);
    const resolved = this.#target.tree.resolve(entry.name);
    if (resolved.last === undefined) throw this.#refuse("TAR_NAME", `a ${entry.type} in the place of a directory`);
    return { parent: this.#target.ensure(resolved), last: resolved.last };
  }

  #directory(entry: TarEntry): void {
    const target = this.#target;
    const resolved = target.tree.resolve(entry.name);
    const parent = target.ensure(resolved);
    const { node, isNew } =
      resolved.last === undefined
        ? { node: parent, isNew: false }
        : target.makeDirectory(parent, resolved.last, entry.mode);
    target.setDirectory(node, isNew, entry);
  }

  #symlink(entry: TarEntry): void {
    const { parent, last } = this.#placeFor(entry);
    this.#target.place(parent, last, "symlinkat", (dirfd) => raw.symlinkat(entry.linkName, dirfd, last));
    this.#setNamed(entry, parent, last);
  }

  #device(entry: TarEntry): void {
    const { type, devMajor, devMinor } = entry;
    if (type === "char" && devMajor === 0 && devMinor === 0)
      throw this.#refuse("TAR_DEVICE", "a character device 0:0, which overlay takes for a deletion");
    const { parent, last } = this.#placeFor(entry);
    const format = type === "char" ? C.S_IFCHR : type === "block" ? C.S_IFBLK : C.S_IFIFO;
    const mode = format | (entry.mode & 0o777 & ~this.#metadata.umask);
    this.#target.place(parent, last, "mknodat", (dirfd) => {
      const result = raw.mknodat(dirfd, last, mode, devMajor, devMinor);
      if (result === -EPERM && type !== "fifo") throw this.#noDevices(entry);
      return result;
    });
    this.#setNamed(entry, parent, last);
  }

  #noDevices(entry: TarEntry): LamellaError {
    return new LamellaError(
      "permission_denied",
      "EPERM",
      `${textOfBytes(entry.name)}: the device ${entry.devMajor}:${entry.devMinor} may not be made here`,
      { hint: "only root of the initial user namespace may make devices: load this image as root" },
    );
  }

  /** Owner, mode, attributes and time of what has just been made by name. */
  #setNamed(entry: TarEntry, parent: DirNode, last: ByteString): void {
    const metadata = this.#metadata;
    const dirfd = this.#target.tree.fdOf(parent);
    if (!metadata.isOwnByCreation(entry.uid, entry.gid, parent.gid)) metadata.lchown(dirfd, last, entry.uid, entry.gid);
    const isRight = (entry.mode & 0o777 & ~metadata.umask) === entry.mode;
    if (entry.type !== "symlink" && !isRight) metadata.lchmod(dirfd, last, entry.mode);
    metadata.lsetxattrs(dirfd, last, entry.xattrs);
    metadata.utimens(dirfd, last, entry.mtimeSec, entry.mtimeNsec);
    parent.children.set(last, leaf.plain);
  }

  /** A hard link has the metadata of its first name; what its own header repeats is not set again (CVE-2021-32760). */
  #hardlink(entry: TarEntry): void {
    const { parent, last } = this.#placeFor(entry);
    this.#target.link(this.#target.tree.resolve(entry.linkName), parent, last);
  }

  // ---- regular files

  #beginFile(entry: TarEntry): void {
    const { parent, last } = this.#placeFor(entry);
    this.#parent = parent;
    this.#last = last;
    this.#mode = entry.mode & 0o777;
    this.#sparse = entry.sparse;
    this.#region = 0;
    this.#inRegion = 0;
    const isPlain = entry.sparse === undefined && entry.size > 0;
    const way = isPlain ? this.#donor?.open(parent.pathOf(last), entry.size) : undefined;
    if (way === "link") return;
    this.#createFile();
    if (way !== "clone" || this.#donor?.clone(this.#fd) !== "link") return;
    // The first file finds out that there are no reflinks here.
    raw.close(this.#fd);
    this.#fd = -1;
    this.#target.clear(parent, last);
  }

  #createFile(): void {
    const last = this.#last;
    const flags = C.O_WRONLY | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW;
    const open = (dirfd: number): number => raw.openat(dirfd, last, flags, this.#mode);
    this.#fd = this.#target.place(this.#parent as DirNode, last, "openat", open);
  }

  /** The file is the donor's as long as its bytes are the tar's; at the first that is not, it is written after all. */
  #compare(bytes: Uint8Array): void {
    const donor = this.#donor as Donor;
    if (donor.compare(bytes)) return;
    this.#unshare(donor);
    this.#write(bytes);
  }

  /** Makes the file one of its own: what was equal so far is in it, and the next byte goes behind that. */
  #unshare(donor: Donor): void {
    if (this.#fd < 0) {
      this.#createFile();
      donor.copyEqual(this.#fd);
    } else this.#metadata.check("lseek", raw.lseek(this.#fd, donor.equalBytes, C.SEEK_SET));
    donor.close();
  }

  /** All bytes were the donor's. A clone gets its metadata next, as any file; a link has it or is none. */
  #endShared(entry: TarEntry): void {
    const donor = this.#donor as Donor;
    if (this.#fd >= 0) {
      this.#sharedBytes += entry.size;
      donor.close();
      return;
    }
    const parent = this.#parent as DirNode;
    let isLinked = donor.hasMetadataOf(entry);
    if (isLinked) {
      this.#target.place(parent, this.#last, "linkat", (dirfd) => {
        const r = donor.linkTo(dirfd, this.#last);
        // Too many links, or a border between file systems or quota projects: then it is a file of its own.
        isLinked = r >= 0;
        return r === -EMLINK || r === -EXDEV || r === -EPERM ? 0 : r;
      });
    }
    if (!isLinked) {
      this.#unshare(donor);
      return;
    }
    donor.close();
    this.#sharedBytes += entry.size;
    this.#placed(entry, parent);
  }

  #write(bytes: Uint8Array): void {
    let rest = bytes;
    for (;;) {
      const n = raw.write(this.#fd, rest, rest.length);
      if (n === rest.length) return;
      if (n === -EINTR) continue;
      rest = rest.subarray(this.#metadata.check("write", n));
    }
  }

  #writeSparse(bytes: Uint8Array, regions: readonly SparseRegion[]): void {
    let rest = bytes;
    while (rest.length > 0) {
      const region = regions[this.#region] as SparseRegion;
      const length = Math.min(rest.length, region.length - this.#inRegion);
      if (length === 0) {
        this.#region++;
        this.#inRegion = 0;
        continue;
      }
      const n = raw.pwrite64(this.#fd, rest, length, region.offset + this.#inRegion);
      if (n === -EINTR) continue;
      this.#inRegion += this.#metadata.check("pwrite64", n);
      rest = rest.subarray(n);
    }
  }

  #endFile(entry: TarEntry): void {
    const fd = this.#fd;
    const parent = this.#parent as DirNode;
    const metadata = this.#metadata;
    const mode = entry.mode;
    if (entry.sparse !== undefined) metadata.check("ftruncate", raw.ftruncate(fd, entry.realSize));
    const isOwn = metadata.isOwnByCreation(entry.uid, entry.gid, parent.gid);
    if (!isOwn) metadata.fchown(fd, entry.uid, entry.gid);
    if ((mode & 0o777 & ~metadata.umask) !== mode) metadata.check("fchmod", raw.fchmod(fd, mode));
    if (entry.xattrs.size > 0) metadata.fsetxattrs(fd, entry.xattrs);
    metadata.utimens(fd, "", entry.mtimeSec, entry.mtimeNsec);
    this.#fd = -1;
    metadata.check("close", raw.close(fd));
    this.#placed(entry, parent);
  }

  #placed(entry: TarEntry, parent: DirNode): void {
    parent.children.set(this.#last, entry.size > 0 ? this.#payloads++ : leaf.plain);
    if (entry.size > 0) this.#record(entry, parent.pathOf(this.#last));
  }

  #record(entry: TarEntry, path: ByteString): void {
    if (entry.sparse === undefined) {
      this.#encoder.file(path, entry.size);
      return;
    }
    this.#encoder.sparse(path, entry.realSize);
    for (const { offset, length } of entry.sparse) if (length > 0) this.#encoder.slice(offset, length);
  }

  #refuse(code: string, what: string): LamellaError {
    return new LamellaError("invalid_argument", code, `tar entry ${shownName(this.#metadata.subject)}: ${what}`);
  }
}
