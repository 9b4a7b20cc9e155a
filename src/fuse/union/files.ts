/**
 * Open files. A file's handle is the number of its descriptor.
 *
 * A file that was opened for reading before its copy-up goes on with the copy: reads look whether its node has moved.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { FileExtent } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Kernel, Opened } from "../file-system.ts";
import { copyUp } from "./copy-up.ts";
import type { Node } from "./node.ts";
import { Passthrough } from "./passthrough.ts";
import type { Union } from "./union.ts";

const EBADF = 9;
const EAGAIN = 11;
/** Makes the kernel look the name up again, and open what it then finds. */
const ESTALE = 116;
const ENXIO = 6;
/** What of open(2)'s flags counts for the file below. The kernel has seen to the rest, and gives every write its offset. */
const KEPT_FLAGS = 3 | C.O_TRUNC | C.O_SYNC;

interface OpenFile {
  readonly node: Node;
  /** The ID by which it was opened. */
  readonly id: number;
  fd: number;
  readonly writable: boolean;
  /** The kernel writes to it without asking where it is mapped. */
  readonly mappable: boolean;
  /** It was opened in the upper layer. */
  upper: boolean;
  /** Where its bytes lie behind the descriptor, when that is of another file. */
  extent: FileExtent | undefined;
}

export class OpenFiles implements Disposable {
  readonly #union: Union;
  readonly #files = new Map<number, OpenFile>();
  #kernel: Kernel | undefined;
  #passthrough = new Passthrough(undefined);
  /** How many files are open that may be mapped and written to, by the ID of the node. */
  readonly #mappable = new Map<number, number>();

  constructor(union: Union) {
    this.#union = union;
  }

  /** From now on files are passed through where `kernel` can. */
  mounted(kernel: Kernel): void {
    this.#kernel = kernel;
    this.#passthrough = new Passthrough(kernel);
  }

  /** Opens a regular file by one of its node's IDs; what is opened for writing is copied up. */
  open(node: Node, id: number, flags: number): Opened {
    if (isForWriting(flags)) copyUp(this.#union, node, (flags & C.O_TRUNC) !== 0 ? "no-data" : "all");
    if (this.#passthrough.isOutdated(node)) {
      this.#passthrough.forgetAttributes(node.id);
      this.#union.nodes.renew(node);
    }
    if (id !== node.id) throw new SyscallError("open", ESTALE);
    const opened = this.adopt(node, this.#descriptor(node, flags & KEPT_FLAGS), { flags, mode: undefined });
    if (this.#mappable.get(id) === 1) this.#passthrough.forgetAttributes(id);
    return opened;
  }

  /** Takes a descriptor of a node that was opened with `flags`. `mode`: of the file, where it is known. */
  adopt(node: Node, fd: number, file: { readonly flags: number; readonly mode: number | undefined }): Opened {
    const upper = node.upper && !node.isMetacopy;
    const extent = node.data && this.#union.layer(node.data.layer).extent(node.data.path);
    const from = extent !== undefined ? "within" : upper || this.#union.upper === undefined ? "stays" : "lower";
    const opened = this.#passthrough.opened(node, fd, { fd, from, mode: file.mode });
    const { id } = node;
    const mappable = opened.backing !== undefined && (file.flags & 3) === C.O_RDWR;
    if (mappable) this.#mappable.set(id, (this.#mappable.get(id) ?? 0) + 1);
    this.#files.set(fd, { node, id, fd, writable: isForWriting(file.flags), mappable, upper, extent });
    return opened;
  }

  #descriptor(node: Node, flags: number): number {
    if (node.data !== undefined) {
      const layer = this.#union.layer(node.data.layer);
      const extent = layer.extent(node.data.path);
      if (extent === undefined) return layer.open(node.data.path).release();
      return sys.openat(C.AT_FDCWD, `/proc/self/fd/${extent.fd}`, C.O_RDONLY);
    }
    const [fd, name] = this.#union.at(node);
    if (name === "") return sys.openat(C.AT_FDCWD, `/proc/self/fd/${fd}`, flags);
    return sys.openat(fd, name, flags | C.O_NOFOLLOW | C.O_NONBLOCK);
  }

  /** The descriptor behind a handle, that of the upper layer once the file is there. */
  fd(handle: number): number {
    const file = this.#files.get(handle);
    if (file === undefined) throw new SyscallError("read", EBADF);
    if (file.upper || file.node.data !== undefined) return file.fd;
    const fd = this.#descriptor(file.node, C.O_RDONLY);
    if (file.fd !== handle) raw.close(file.fd);
    file.fd = fd;
    file.extent = undefined;
    file.upper = true;
    return fd;
  }

  /** Fills `into` from `offset` on; the bytes read, or a negative errno, or LATER for what would wait for the disk. */
  read(handle: number, into: Uint8Array, offset: number): number {
    const fd = this.fd(handle);
    const extent = this.#files.get(handle)?.extent;
    if (extent === undefined) return this.#readFrom(fd, into, offset);
    const length = Math.max(0, Math.min(into.length, extent.length - offset));
    return this.#readFrom(fd, into.subarray(0, length), extent.offset + offset);
  }

  #readFrom(fd: number, into: Uint8Array, offset: number): number {
    const n = raw.preadCached(fd, into, offset);
    // Fewer bytes than asked for, on older kernels even none, may be all that lies in memory.
    if (n === into.length || (n >= 0 && endsAt(fd, offset + n))) return n;
    // Some file systems cannot tell what lies in memory.
    if (n < 0 && n !== -EAGAIN) return raw.pread64(fd, into, into.length, offset);
    const later = this.#kernel?.later({ call: "pread64", fd, offset, length: into.length });
    return later ?? raw.pread64(fd, into, into.length, offset);
  }

  /** Writes to disk; LATER, or a negative errno. */
  sync(handle: number, call: "fsync" | "fdatasync"): number {
    const fd = this.fd(handle);
    return (
      this.#kernel?.later({ call, fd, offset: 0, length: 0 }) ?? (call === "fsync" ? raw.fsync(fd) : raw.fdatasync(fd))
    );
  }

  /** SEEK_DATA and SEEK_HOLE. */
  seek(handle: number, offset: number, whence: number): number {
    const fd = this.fd(handle);
    const extent = this.#files.get(handle)?.extent;
    if (extent === undefined) return raw.lseek(fd, offset, whence);
    if (offset >= extent.length) return -ENXIO;
    return whence === C.SEEK_DATA ? offset : extent.length;
  }

  /** True when the descriptor behind a handle is that of the file itself. */
  isOwnFile(handle: number): boolean {
    this.fd(handle);
    return this.#files.get(handle)?.extent === undefined;
  }

  node(handle: number): Node | undefined {
    return this.#files.get(handle)?.node;
  }

  /** The descriptor when the file is open for writing. */
  writableFd(handle: number | undefined): number | undefined {
    const file = handle === undefined ? undefined : this.#files.get(handle);
    return file?.writable ? file.fd : undefined;
  }

  /** True while the kernel may write to a node's file, and so change its times, without being asked to write. */
  mayBeMapped(id: number): boolean {
    return this.#mappable.has(id);
  }

  close(handle: number): void {
    const file = this.#files.get(handle);
    if (file === undefined) return;
    this.#files.delete(handle);
    if (file.mappable) this.#unmapped(file.id);
    this.#passthrough.closed(file.id);
    // The number of the handle itself stays taken until now, lest another file get it.
    if (file.fd !== handle) raw.close(file.fd);
    raw.close(handle);
  }

  #unmapped(id: number): void {
    const left = (this.#mappable.get(id) ?? 0) - 1;
    if (left > 0) this.#mappable.set(id, left);
    else this.#mappable.delete(id);
  }

  /** Closes what was open when the mount went: nothing of it is released any more. */
  [Symbol.dispose](): void {
    for (const handle of [...this.#files.keys()]) this.close(handle);
  }
}

/** True when a file has nothing at `offset` or behind it. */
function endsAt(fd: number, offset: number): boolean {
  const stat = raw.statx(fd, "", C.AT_EMPTY_PATH);
  return typeof stat !== "number" && stat.size <= offset;
}

/** True for open(2)'s flags when the file is to be changed. */
function isForWriting(flags: number): boolean {
  return (flags & 3) !== C.O_RDONLY || (flags & C.O_TRUNC) !== 0;
}
