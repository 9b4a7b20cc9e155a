/**
 * A union of layers as a FUSE file system, in the on-disk format of the kernel's overlayfs (Documentation/filesystems/
 * overlayfs.rst): what is written here can be mounted by the kernel afterwards, and the other way round.
 *
 * All changes come through the mount, so that the kernel may keep what it was told for as long as it likes. It answers one
 * request after another, and is the only one to change the upper layer.
 */
import type { ByteString } from "../../lib/bytes.ts";
import type { LayerEntry } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type {
  Allocation,
  Answer,
  Caller,
  Changes,
  Creation,
  DirectoryName,
  DirectorySink,
  Entry,
  FilePosition,
  FileSystem,
  Kernel,
  Opened,
  Writer,
  XattrChange,
} from "../file-system.ts";
import {
  changeAttributes,
  dropPrivileges,
  getAttribute,
  listAttributes,
  removeAttribute,
  setAttribute,
} from "./attributes.ts";
import { copyUp } from "./copy-up.ts";
import { createObject, directoryFor, linkObject, type Making } from "./create.ts";
import { OpenFiles } from "./files.ts";
import { ABOVE, indexAfter, Listings } from "./listings.ts";
import type { Node } from "./node.ts";
import { recordNew } from "./records.ts";
import { removeDirectory, unlinkObject } from "./remove.ts";
import { anchorMetacopy, renameObject } from "./rename.ts";
import { Union, type UnionOptions } from "./union.ts";
import { useUmask } from "./use-umask.ts";

const EPERM = 1;
const ENOENT = 2;
const EBADF = 9;
const EOPNOTSUPP = 95;
const ENAMETOOLONG = 36;
const LONGEST_NAME = 255;

export class UnionFileSystem implements FileSystem, Disposable {
  readonly validSec = 86_400;
  readonly #union: Union;
  readonly #files: OpenFiles;
  readonly #listings: Listings;

  /** Errors: SyscallError when a layer cannot be opened. */
  constructor(options: UnionOptions) {
    this.#union = new Union(options);
    this.#files = new OpenFiles(this.#union);
    this.#listings = new Listings((node) => this.#union.stack.entries(node));
  }

  [Symbol.dispose](): void {
    this.#files[Symbol.dispose]();
    this.#union[Symbol.dispose]();
  }

  mounted(kernel: Kernel): void {
    this.#union.mounted(kernel);
    // What is passed through changes set-id bits of inodes, not of records.
    this.#files.mounted(this.#union.record === undefined ? kernel : { ...kernel, passthrough: false });
  }

  /** What a request is about: to be asked for at its beginning, as descriptors that the last one has opened may be closed. */
  #node(id: number): Node {
    this.#union.upper?.trim();
    return this.#union.nodes.get(id);
  }

  /** Right after it was found or made. */
  #lend(node: Node): Entry {
    const stat = this.#union.takeStat(node);
    node.lookups++;
    return { node: node.id, stat };
  }

  lookup(parent: number, name: ByteString): Answer<Entry> {
    if (name.length > LONGEST_NAME) return -ENAMETOOLONG;
    const node = this.#union.find(this.#node(parent), name);
    return node === undefined ? -ENOENT : this.#lend(node);
  }

  forget(id: number, count: number): void {
    this.#union.nodes.forget(id, count);
  }

  isStale(node: number): boolean {
    return this.#union.nodes.isAlias(node) || this.#files.mayBeMapped(node);
  }

  getattr(node: number): Answer<sys.Stat> {
    return this.#union.stat(this.#node(node));
  }

  setattr(id: number, changes: Changes): Answer<sys.Stat> {
    const node = this.#node(id);
    changeAttributes(this.#union, node, changes, this.#files.writableFd(changes.handle));
    return this.#union.stat(node);
  }

  readlink(id: number): Answer<ByteString> {
    const node = this.#node(id);
    if (!node.upper && node.lower) return this.#union.layer(node.lower.layer).readlink(node.lower.path);
    return sys.readlinkat(...this.#union.at(node));
  }

  #create(parent: number, name: ByteString, what: Making): [Node, number] | number {
    if (name.length > LONGEST_NAME) return -ENAMETOOLONG;
    return createObject(this.#union, this.#node(parent), name, what);
  }

  #made(parent: number, name: ByteString, what: Making): Answer<Entry> {
    const made = this.#create(parent, name, what);
    return typeof made === "number" ? made : this.#lend(made[0]);
  }

  mknod(
    parent: number,
    name: ByteString,
    how: Creation & { readonly device: readonly [number, number] },
  ): Answer<Entry> {
    const { mode, device } = how;
    const type = mode & C.S_IFMT;
    // A character device 0:0 would be a whiteout.
    if (type === C.S_IFCHR && device[0] === 0 && device[1] === 0) return -EPERM;
    const make: Making["make"] = (fd, at) => raw.mknodat(fd, at, mode, ...device);
    return this.#made(parent, name, { type, umask: how.umask, caller: how.caller, make });
  }

  mkdir(parent: number, name: ByteString, how: Creation): Answer<Entry> {
    const make: Making["make"] = (fd, at) => raw.mkdirat(fd, at, how.mode & 0o7777);
    return this.#made(parent, name, { type: C.S_IFDIR, umask: how.umask, caller: how.caller, make });
  }

  symlink(
    parent: number,
    name: ByteString,
    how: { readonly target: ByteString; readonly caller: Caller },
  ): Answer<Entry> {
    const make: Making["make"] = (fd, at) => raw.symlinkat(how.target, fd, at);
    return this.#made(parent, name, { type: C.S_IFLNK, umask: 0, caller: how.caller, make });
  }

  link(id: number, parent: number, name: ByteString): Answer<Entry> {
    if (name.length > LONGEST_NAME) return -ENAMETOOLONG;
    const node = this.#node(id);
    const directory = this.#node(parent);
    copyUp(this.#union, node, "metadata");
    anchorMetacopy(this.#union, node);
    linkObject(this.#union, node, directory, name);
    node.lookups++;
    return { node: node.id, stat: this.#union.stat(node) };
  }

  unlink(parent: number, name: ByteString): number {
    unlinkObject(this.#union, this.#node(parent), name);
    return 0;
  }

  rmdir(parent: number, name: ByteString): number {
    removeDirectory(this.#union, this.#node(parent), name);
    return 0;
  }

  rename(from: DirectoryName, to: DirectoryName, flags: number): number {
    if (to.name.length > LONGEST_NAME) return -ENAMETOOLONG;
    const place = ({ parent, name }: DirectoryName) => ({ parent: this.#node(parent), name });
    renameObject(this.#union, place(from), place(to), flags);
    return 0;
  }

  open(id: number, flags: number, how: { readonly killPrivileges: Writer }): Answer<Opened> {
    const node = this.#node(id);
    const opened = this.#files.open(node, id, flags);
    if (how.killPrivileges) dropPrivileges(this.#union, node, how.killPrivileges);
    return opened;
  }

  create(parent: number, name: ByteString, how: Creation & { readonly flags: number }): Answer<Entry & Opened> {
    const mode = how.mode & 0o7777;
    const flags = (how.flags & (3 | C.O_SYNC)) | C.O_CREAT | C.O_EXCL | C.O_NOFOLLOW;
    const make: Making["make"] = (fd, at) => raw.openat(fd, at, flags, mode);
    const made = this.#create(parent, name, { type: C.S_IFREG, umask: how.umask, caller: how.caller, make });
    if (typeof made === "number") return made;
    const [node, fd] = made;
    return this.#lendOpened(node, fd, how.flags);
  }

  /** A new file, open. */
  #lendOpened(node: Node, fd: number, openFlags: number): Entry & Opened {
    const { stat } = this.#lend(node);
    const { handle, flags, backing = 0 } = this.#files.adopt(node, fd, { flags: openFlags, mode: stat.mode });
    return { node: node.id, stat, handle, flags, backing };
  }

  tmpfile(parent: number, how: Creation & { readonly flags: number }): Answer<Entry & Opened> {
    const union = this.#union;
    const directory = directoryFor(union, this.#node(parent));
    useUmask(how.umask);
    const flags = (how.flags & (C.O_EXCL | C.O_SYNC)) | C.O_TMPFILE | C.O_RDWR;
    const fd = sys.openat(directory, ".", flags, how.mode & 0o7777);
    const made = sys.fstat(fd);
    const { uid, gid } = union.diskOwner(how.caller);
    if (union.record !== undefined)
      recordNew([fd, ""], union.record, { uid, gid }, union.statAt(union.at(this.#node(parent))));
    else {
      const inherited = (sys.fstat(directory).mode & 0o2000) !== 0;
      raw.fchown(fd, uid, inherited ? -1 : gid);
      // chown has cleared them.
      if ((made.mode & 0o6000) !== 0) raw.fchmod(fd, made.mode & 0o7777);
    }
    const stat = sys.fstat(fd);
    const ino = union.inodeNumber(stat);
    const node = union.nodes.add({ type: C.S_IFREG, ino, upper: true, parts: [], lower: undefined, data: undefined });
    node.fd = sys.openat(C.AT_FDCWD, `/proc/self/fd/${fd}`, C.O_RDWR);
    return this.#lendOpened(node, fd, flags);
  }

  read(handle: number, into: Uint8Array, offset: number): number {
    return this.#files.read(handle, into, offset);
  }

  write(handle: number, from: Uint8Array, at: { readonly offset: number; readonly killPrivileges: Writer }): number {
    const written = raw.pwrite64(this.#files.fd(handle), from, from.length, at.offset);
    if (at.killPrivileges) this.#dropPrivileges(handle, at.killPrivileges);
    return written;
  }

  #dropPrivileges(handle: number, writer: Caller): void {
    const node = this.#files.node(handle);
    if (node?.upper) dropPrivileges(this.#union, node, writer);
  }

  release(handle: number): void {
    this.#files.close(handle);
  }

  fsync(handle: number, how: { readonly dataOnly: boolean }): number {
    if (!this.#union.syncs || !this.#files.node(handle)?.upper) return 0;
    return this.#files.sync(handle, how.dataOnly ? "fdatasync" : "fsync");
  }

  readdir(id: number, offset: number, sink: DirectorySink): number {
    const node = this.#node(id);
    const listing = this.#listings.get(node, offset === 0);
    for (let at = offset; at < ABOVE; at++) {
      const name = at === 0 ? "." : "..";
      if (!sink.fits(name)) return 0;
      sink.add(name, at + 1, C.DT_DIR, (at === 0 ? node : (node.names[0]?.parent ?? node)).ino);
    }
    const { entries, offsets } = listing;
    const first = indexAfter(listing, offset);
    if (first === entries.length) this.#listings.drop(node);
    for (let at = first; at < entries.length; at++) {
      const entry = entries[at] as LayerEntry;
      if (!sink.fits(entry.name)) break;
      this.#addEntry(sink, node, entry, offsets[at] as number);
    }
    return 0;
  }

  #addEntry(sink: DirectorySink, directory: Node, entry: LayerEntry, offset: number): void {
    if (!sink.plus) {
      this.#addName(sink, directory, entry, offset);
      return;
    }
    // A name that went since the list was made is left out.
    const child = this.#union.find(directory, entry.name);
    if (child !== undefined) sink.addEntry(entry.name, offset, this.#lend(child));
  }

  /** Adds a name alone. What the listing of its layer tells is enough where nothing can have been copied up or moved there. */
  #addName(sink: DirectorySink, directory: Node, entry: LayerEntry, offset: number): void {
    const union = this.#union;
    const { name, type } = entry;
    const known = directory.children.get(name);
    const child = known ?? (union.tellsInode(entry) ? undefined : union.find(directory, name));
    if (child !== undefined) {
      sink.add(name, offset, child.type >>> 12, child.ino);
      union.nodes.dropUnused(child);
    } else if (union.tellsInode(entry)) sink.add(name, offset, type, union.listedInode(entry));
  }

  fsyncdir(id: number): number {
    const node = this.#node(id);
    if (!this.#union.syncs || !node.upper) return 0;
    using directory = new sys.OwnedFd(sys.openat(...this.#union.at(node), C.O_RDONLY | C.O_DIRECTORY));
    return raw.fsync(directory.fd);
  }

  statfs(): Answer<sys.StatFs> {
    const { upper } = this.#union;
    if (upper !== undefined) return raw.fstatfs(upper.rootFd);
    using lowest = this.#union.layer(0).openPath("");
    return lowest === undefined ? sys.statfs(this.#union.options.lowers[0] ?? "/") : raw.fstatfs(lowest.fd);
  }

  getxattr(node: number, name: ByteString): Answer<Uint8Array | undefined> {
    return getAttribute(this.#union, this.#node(node), name);
  }

  listxattr(node: number): Answer<readonly ByteString[]> {
    return listAttributes(this.#union, this.#node(node));
  }

  setxattr(node: number, name: ByteString, change: XattrChange): number {
    setAttribute(this.#union, this.#node(node), name, change);
    return 0;
  }

  removexattr(node: number, name: ByteString): number {
    removeAttribute(this.#union, this.#node(node), name);
    return 0;
  }

  fallocate(handle: number, range: Allocation): number {
    const fd = this.#files.writableFd(handle);
    if (fd === undefined) return -EBADF;
    const result = raw.fallocate(fd, range.mode, range.offset, range.length);
    if (result >= 0 && range.killPrivileges) this.#dropPrivileges(handle, range.killPrivileges);
    return result;
  }

  copyRange(from: FilePosition, to: FilePosition, length: number): number {
    if (!this.#files.isOwnFile(from.handle)) return -EOPNOTSUPP;
    const source = { fd: this.#files.fd(from.handle), offset: from.offset };
    return raw.copyFileRangeAt(source, { fd: this.#files.fd(to.handle), offset: to.offset }, length);
  }

  birthTime(id: number): readonly [number, number] | undefined {
    return this.#union.birthTime(this.#node(id));
  }

  lseek(handle: number, offset: number, whence: number): number {
    return this.#files.seek(handle, offset, whence);
  }
}
