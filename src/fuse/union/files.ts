/**
 * Open files and directories. A file's handle is the number of its descriptor; a directory's is a number of its own, and
 * what it lists is read once for each pass over it.
 *
 * A file that was opened for reading before its copy-up goes on with the copy: reads look whether its node has moved.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
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
const ENXIO = 6;
/** What of open(2)'s flags counts for the file below. The kernel has seen to the rest, and gives every write its offset. */
const KEPT_FLAGS = 3 | C.O_TRUNC | C.O_SYNC;

interface OpenFile {
  readonly node: Node;
  fd: number;
  readonly writable: boolean;
  /** It was opened in the upper layer. */
  upper: boolean;
  /** Where its bytes lie behind the descriptor, when that is of another file. */
  extent: FileExtent | undefined;
}

export class OpenFiles {
  readonly #union: Union;
  readonly #files = new Map<number, OpenFile>();
  readonly #directories = new Map<number, { readonly node: Node; names: readonly ByteString[] | undefined }>();
  #lastDirectory = 0;
  #passthrough = new Passthrough(undefined);

  constructor(union: Union) {
    this.#union = union;
  }

  /** From now on files are passed through where `kernel` can. */
  mounted(kernel: Kernel): void {
    this.#passthrough = new Passthrough(kernel);
  }

  /** Opens a regular file; what is opened for writing is copied up. */
  open(node: Node, flags: number): Opened {
    const writable = (flags & 3) !== C.O_RDONLY || (flags & C.O_TRUNC) !== 0;
    if (writable) copyUp(this.#union, node, (flags & C.O_TRUNC) !== 0 ? "no-data" : "all");
    return this.adopt(node, this.#descriptor(node, flags & KEPT_FLAGS), writable);
  }

  /** Takes an open descriptor of a node. */
  adopt(node: Node, fd: number, writable: boolean): Opened {
    const upper = node.upper && !node.isMetacopy;
    const extent = node.data && this.#union.layer(node.data.layer).extent(node.data.path);
    this.#files.set(fd, { node, fd, writable, upper, extent });
    return this.#passthrough.opened(node, fd, {
      fd,
      stays: extent === undefined && (upper || this.#union.upper === undefined),
    });
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

  /** Fills `into` from `offset` on; the bytes read, or a negative errno. */
  read(handle: number, into: Uint8Array, offset: number): number {
    const fd = this.fd(handle);
    const extent = this.#files.get(handle)?.extent;
    if (extent === undefined) return raw.pread64(fd, into, into.length, offset);
    const length = Math.max(0, Math.min(into.length, extent.length - offset));
    return raw.pread64(fd, into, length, extent.offset + offset);
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

  close(handle: number): void {
    const file = this.#files.get(handle);
    if (file === undefined) return;
    this.#files.delete(handle);
    this.#passthrough.closed(file.node);
    // The number of the handle itself stays taken until now, lest another file get it.
    if (file.fd !== handle) raw.close(file.fd);
    raw.close(handle);
  }

  openDirectory(node: Node): number {
    this.#directories.set(++this.#lastDirectory, { node, names: undefined });
    return this.#lastDirectory;
  }

  /** A directory's node, and its names as of when it was read from the beginning. */
  list(handle: number, fromStart: boolean): { readonly node: Node; readonly names: readonly ByteString[] } {
    const directory = this.#directories.get(handle);
    if (directory === undefined) throw new SyscallError("readdir", EBADF);
    if (fromStart || directory.names === undefined)
      directory.names = this.#union.stack.list(this.#union.entryOf(directory.node));
    return { node: directory.node, names: directory.names };
  }

  closeDirectory(handle: number): void {
    this.#directories.delete(handle);
  }
}
