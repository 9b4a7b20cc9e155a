/**
 * A layer that is a tar, as registries hold them but not compressed: an index of it is made in memory, and data is read from
 * where it lies. Nothing is unpacked.
 *
 * What the tar hides in the layers below it says by names (OCI image-spec, layer.md): `.wh.NAME` hides NAME, and
 * `.wh..wh..opq` all of a directory. They are given the form that overlay semantics know, a device 0:0 and the `opaque`
 * attribute. As when it is applied, a name hides what lies below, not what the same tar holds; of two entries of one name the
 * later counts; a directory that only its entries' names tell of is root's, with mode 0755.
 *
 * Overlay's own attributes in a tar mean nothing. Names that lead out of the tree make a tar invalid.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { TarEntry, TarEntryType } from "../tar/entry.ts";
import { TarReader } from "../tar/reader.ts";
import type { FileExtent, Layer } from "./layer.ts";
import { markName, opaqueName } from "./layer-marks.ts";
import type { OverlayXattrPrefix } from "./xattr-names.ts";

const EINVAL = 22;
const ENOENT = 2;
const ENOTDIR = 20;
const CHUNK = 1 << 20;
/** The device of a tar's inode numbers, as no kernel numbers one; the minor part is the tar's own inode number. */
const DEVICE = 0xfff0_0000;
const BLOCK = 512;
const compressed: readonly (readonly [string, Buffer])[] = [
  ["gzip", Buffer.from([0x1f, 0x8b])],
  ["zstd", Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
  ["xz", Buffer.from([0xfd, 0x37, 0x7a, 0x58])],
];

interface Inode {
  readonly type: number;
  entry: TarEntry | undefined;
  readonly number: number;
  nlink: number;
  readonly children: Map<ByteString, Inode> | undefined;
  /** Of a directory: it hides what lies below it. */
  opaque: boolean;
}

const types: Readonly<Record<TarEntryType, number>> = {
  file: C.S_IFREG,
  unknown: C.S_IFREG,
  hardlink: C.S_IFREG,
  symlink: C.S_IFLNK,
  char: C.S_IFCHR,
  block: C.S_IFBLK,
  directory: C.S_IFDIR,
  fifo: C.S_IFIFO,
};

export class TarLayer implements Layer {
  readonly #tar: sys.OwnedFd;
  readonly #prefix: OverlayXattrPrefix;
  readonly #device: number;
  readonly #root: Inode;
  #lastNumber = 1;

  /**
   * Reads the tar at `path` (absolute) once. `prefix`: of the attributes that mark directories. Errors: SyscallError;
   * invalid_argument when it is compressed or names lead out of it; those of TarReader.
   */
  constructor(path: ByteString, prefix: OverlayXattrPrefix) {
    this.#prefix = prefix;
    this.#tar = sys.open(path, C.O_RDONLY);
    this.#root = this.#directory(undefined);
    try {
      this.#device = sys.fstat(this.#tar.fd).inoLow;
      this.#read(path);
    } catch (error) {
      this.#tar[Symbol.dispose]();
      throw error;
    }
  }

  #read(path: ByteString): void {
    const reader = new TarReader({ entry: (entry) => this.#add(entry) });
    const chunk = Buffer.allocUnsafe(CHUNK);
    for (let at = 0; ; ) {
      const n = sys.pread64(this.#tar.fd, chunk, chunk.length, at);
      if (n === 0) break;
      const kind = at === 0 ? compressed.find(([, magic]) => chunk.subarray(0, magic.length).equals(magic)) : undefined;
      if (kind !== undefined)
        throw new LamellaError(
          "invalid_argument",
          "TAR_COMPRESSED",
          `${textOfBytes(path)} is compressed (${kind[0]})`,
          {
            hint: "decompress it first; a mount does that by itself for gzip and zstd",
          },
        );
      reader.push(chunk.subarray(0, n));
      at += n;
    }
    reader.end();
  }

  #directory(entry: TarEntry | undefined): Inode {
    const number = this.#lastNumber++;
    return { type: C.S_IFDIR, entry, number, nlink: 2, children: new Map(), opaque: false };
  }

  #add(entry: TarEntry): void {
    const parts = componentsOf(entry.name);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type === "directory") this.#root.entry = entry;
      return;
    }
    const parent = this.#makeDirectory(parts);
    if (name === opaqueName) parent.opaque = true;
    else if (name.startsWith(`${markName}${markName}`)) return;
    else if (name.startsWith(markName)) this.#hide(parent, name.slice(markName.length));
    else this.#put(parent, name, entry);
  }

  /** The directory at a path; what is missing of it is made. */
  #makeDirectory(parts: readonly ByteString[]): Inode {
    let at = this.#root;
    for (const part of parts) {
      const child = at.children?.get(part);
      const next = child?.children === undefined ? this.#directory(undefined) : child;
      if (next !== child) this.#set(at, part, next);
      at = next;
    }
    return at;
  }

  /** A directory that the tar holds too hides all of what lies below it, anything else does so by itself. */
  #hide(parent: Inode, name: ByteString): void {
    const present = parent.children?.get(name);
    if (present?.children !== undefined) present.opaque = true;
    else if (present === undefined) parent.children?.set(name, this.#whiteout());
  }

  #whiteout(): Inode {
    return {
      type: C.S_IFCHR,
      entry: undefined,
      number: this.#lastNumber++,
      nlink: 1,
      children: undefined,
      opaque: false,
    };
  }

  #put(parent: Inode, name: ByteString, entry: TarEntry): void {
    const present = parent.children?.get(name);
    if (entry.type === "hardlink") {
      const target = this.#find(componentsOf(entry.linkName).join("/"));
      if (target === undefined || target.children !== undefined)
        throw new LamellaError("invalid_argument", "TAR_LINK", `${textOfBytes(entry.name)}: a hard link to nothing`);
      target.nlink++;
      this.#set(parent, name, target);
    } else if (entry.type === "directory") {
      const directory = this.#directory(entry);
      // What it already holds stays; a whiteout of its name came first.
      for (const [child, inode] of present?.children ?? []) directory.children?.set(child, inode);
      directory.opaque = present?.opaque === true || isWhiteout(present);
      directory.nlink = present?.children === undefined ? 2 : present.nlink;
      this.#set(parent, name, directory);
    } else {
      const inode = { type: types[entry.type], entry, number: this.#lastNumber++, nlink: 1, opaque: false };
      this.#set(parent, name, { ...inode, children: undefined });
    }
  }

  #set(parent: Inode, name: ByteString, inode: Inode): void {
    const before = parent.children?.get(name);
    if (before !== undefined && before.children === undefined) before.nlink--;
    parent.nlink += Number(inode.children !== undefined) - Number(before?.children !== undefined);
    parent.children?.set(name, inode);
  }

  #find(path: ByteString): Inode | undefined {
    let at: Inode | undefined = this.#root;
    for (const part of path === "" ? [] : path.split("/")) at = at?.children?.get(part);
    return at;
  }

  #get(path: ByteString): Inode {
    return this.#find(path) ?? missing(path);
  }

  stat(path: ByteString): sys.Stat | undefined {
    const inode = this.#find(path);
    if (inode === undefined) return undefined;
    const { entry, type } = inode;
    const isFile = type === C.S_IFREG;
    const isDevice = type === C.S_IFCHR || type === C.S_IFBLK;
    const sec = entry?.mtimeSec ?? 0;
    const nsec = entry?.mtimeNsec ?? 0;
    return {
      mode: type | (isWhiteout(inode) ? 0 : (entry?.mode ?? 0o755)),
      nlink: inode.nlink,
      uid: entry?.uid ?? 0,
      gid: entry?.gid ?? 0,
      size: isFile ? (entry?.realSize ?? 0) : type === C.S_IFLNK ? (entry?.linkName.length ?? 0) : 0,
      blocks: isFile ? Math.ceil((entry?.size ?? 0) / BLOCK) : 0,
      inoLow: inode.number,
      inoHigh: 0,
      devMajor: DEVICE,
      devMinor: this.#device,
      rdevMajor: isDevice ? (entry?.devMajor ?? 0) : 0,
      rdevMinor: isDevice ? (entry?.devMinor ?? 0) : 0,
      mtimeSec: sec,
      mtimeNsec: nsec,
      ctimeSec: sec,
      ctimeNsec: nsec,
      atimeSec: sec,
      atimeNsec: nsec,
    };
  }

  list(path: ByteString): sys.DirEntry[] {
    const { children } = this.#get(path);
    if (children === undefined) throw new SyscallError("getdents64", ENOTDIR, textOfBytes(path));
    return [...children].map(([name, { type, number }]) => ({ name, type: type >>> 12, inoLow: number, inoHigh: 0 }));
  }

  readlink(path: ByteString): ByteString {
    const { type, entry } = this.#get(path);
    if (type !== C.S_IFLNK || entry === undefined) throw new SyscallError("readlinkat", EINVAL, textOfBytes(path));
    return entry.linkName;
  }

  getxattr(path: ByteString, name: ByteString): Buffer | undefined {
    const inode = this.#find(path);
    if (name === `${this.#prefix}opaque`) return inode?.opaque ? Buffer.from("y") : undefined;
    return isOverlayXattr(name) ? undefined : inode?.entry?.xattrs.get(name);
  }

  listxattr(path: ByteString): readonly ByteString[] {
    const { entry, opaque } = this.#get(path);
    const names = [...(entry?.xattrs.keys() ?? [])].filter((name) => !isOverlayXattr(name));
    return opaque ? [...names, `${this.#prefix}opaque`] : names;
  }

  birthTime(): undefined {
    return undefined;
  }

  openPath(): undefined {
    return undefined;
  }

  extent(path: ByteString): FileExtent | undefined {
    const { entry, type } = this.#get(path);
    if (type !== C.S_IFREG || entry === undefined || entry.sparse !== undefined) return undefined;
    return { fd: this.#tar.fd, offset: entry.dataOffset, length: entry.size };
  }

  /** A file in memory with the content, read from its beginning. */
  open(path: ByteString): sys.OwnedFd {
    const { entry, type } = this.#get(path);
    if (type !== C.S_IFREG || entry === undefined) throw new SyscallError("openat", EINVAL, textOfBytes(path));
    const fd = raw.memfd_create("layer");
    if (fd < 0) throw new SyscallError("memfd_create", -fd);
    const file = new sys.OwnedFd(fd);
    try {
      let from = entry.dataOffset;
      for (const { offset, length } of entry.sparse ?? [{ offset: 0, length: entry.size }]) {
        this.#copy(from, fd, offset, length);
        from += length;
      }
      sys.ftruncate(fd, entry.realSize);
      sys.lseek(fd, 0, C.SEEK_SET);
      return file;
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  #copy(from: number, toFd: number, to: number, length: number): void {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, length));
    for (let done = 0; done < length; ) {
      const n = sys.pread64(this.#tar.fd, chunk, Math.min(chunk.length, length - done), from + done);
      if (n === 0) throw new LamellaError("data_loss", "LAYER_CHANGED", "a tar ends before its content does");
      sys.lseek(toFd, to + done, C.SEEK_SET);
      sys.writeAll(toFd, chunk.subarray(0, n));
      done += n;
    }
  }

  [Symbol.dispose](): void {
    this.#tar[Symbol.dispose]();
  }
}

function isWhiteout(inode: Inode | undefined): boolean {
  return inode?.type === C.S_IFCHR && inode.entry === undefined;
}

function isOverlayXattr(name: ByteString): boolean {
  return name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.");
}

function missing(path: ByteString): never {
  throw new SyscallError("openat", ENOENT, textOfBytes(path));
}

/** The names on the way to an entry. */
function componentsOf(name: ByteString): ByteString[] {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes(".."))
    throw new LamellaError("invalid_argument", "TAR_NAME", `${textOfBytes(name)} leads out of its tar`);
  return parts;
}
