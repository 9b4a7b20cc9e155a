/**
 * A layer that is a directory on disk. Every object is reached from a descriptor of the root with openat2-style beneath
 * resolution done by construction: paths come from lookups that saw each component as a directory. Paths longer than the
 * kernel takes in one call are walked in pieces.
 */
import { SyscallError } from "../errors/syscall-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { Layer } from "./layer.ts";

/** Longest path handed to the kernel in one piece; PATH_MAX is 4096 with its NUL. */
const PIECE = 4000;

const ENOENT = 2;
const ENOTDIR = 20;

export class DirectoryLayer implements Layer {
  readonly #root: sys.OwnedFd;
  /** The directory a long path was last walked to, and its path with a trailing slash. */
  #anchor: { readonly path: ByteString; readonly fd: sys.OwnedFd } | undefined;

  /** `path`: absolute path of the directory. Errors: SyscallError when it cannot be opened. */
  constructor(path: ByteString) {
    this.#root = sys.open(path, C.O_PATH | C.O_DIRECTORY);
  }

  stat(path: ByteString): sys.Stat | undefined {
    if (path === "") return sys.fstat(this.#root.fd);
    const [fd, rest] = this.#at(path);
    const stat = raw.statx(fd, rest);
    if (typeof stat !== "number") return stat;
    if (stat === -ENOENT || stat === -ENOTDIR) return undefined;
    throw new SyscallError("statx", -stat, path);
  }

  list(path: ByteString): sys.DirEntry[] {
    const [fd, rest] = this.#at(path);
    using directory = new sys.OwnedFd(
      sys.openat(fd, rest === "" ? "." : rest, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW),
    );
    return sys.readdir(directory.fd);
  }

  readlink(path: ByteString): ByteString {
    const [fd, rest] = this.#at(path);
    return sys.readlinkat(fd, rest);
  }

  getxattr(path: ByteString, name: ByteString): Buffer | undefined {
    const [fd, rest] = this.#at(path);
    return sys.lgetxattrat(fd, rest === "" ? "." : rest, name);
  }

  listxattr(path: ByteString): ByteString[] {
    const [fd, rest] = this.#at(path);
    return sys.llistxattrat(fd, rest === "" ? "." : rest);
  }

  birthTime(path: ByteString): readonly [number, number] | undefined {
    const [fd, rest] = this.#at(path);
    return sys.birthTime(fd, rest === "" ? "." : rest);
  }

  open(path: ByteString): sys.OwnedFd {
    const [fd, rest] = this.#at(path);
    return new sys.OwnedFd(sys.openat(fd, rest, C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK));
  }

  openPath(path: ByteString): sys.OwnedFd {
    const [fd, rest] = this.#at(path);
    return new sys.OwnedFd(sys.openat(fd, rest === "" ? "." : rest, C.O_PATH | C.O_NOFOLLOW));
  }

  extent(): undefined {
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#anchor?.fd[Symbol.dispose]();
    this.#anchor = undefined;
    this.#root[Symbol.dispose]();
  }

  /** A descriptor and a path relative to it that the kernel takes in one call. */
  #at(path: ByteString): [number, ByteString] {
    if (path.length <= PIECE) return [this.#root.fd, path];
    const cut = path.lastIndexOf("/");
    const parent = path.slice(0, cut + 1);
    const anchor = this.#anchor;
    if (anchor?.path === parent) return [anchor.fd.fd, path.slice(cut + 1)];
    let fd = new sys.OwnedFd(sys.openat(this.#root.fd, ".", C.O_PATH | C.O_DIRECTORY));
    for (let rest = parent; rest !== ""; ) {
      const end = rest.length <= PIECE ? rest.length : rest.lastIndexOf("/", PIECE) + 1;
      using previous = fd;
      fd = new sys.OwnedFd(sys.openat(previous.fd, rest.slice(0, end - 1), C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW));
      rest = rest.slice(end);
    }
    anchor?.fd[Symbol.dispose]();
    this.#anchor = { path: parent, fd };
    return [fd.fd, path.slice(cut + 1)];
  }
}
