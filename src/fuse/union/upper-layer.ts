/**
 * The upper layer as overlay semantics see it while it changes. A directory is reached by its node, not by a path: `#5` is the
 * directory of node 5, and `#5/name` an object in it. So a rename above leaves all paths as they are, no path is too long,
 * and a lookup is one call relative to an open directory.
 *
 * The descriptors are O_PATH and lie in their nodes. So many are kept open at most, between requests.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { Layer } from "../../overlayfs/layer.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Node, NodeTable } from "./node.ts";

const MOST_OPEN = 512;
const ENOENT = 2;

export class UpperLayer implements Layer {
  readonly #root: sys.OwnedFd;
  readonly #nodes: NodeTable;
  /** Nodes whose directory is open, in the order in which they were opened. */
  readonly #open = new Set<Node>();

  /** `path`: absolute, of the upper directory. */
  constructor(path: ByteString, nodes: NodeTable) {
    this.#root = sys.open(path, C.O_PATH | C.O_DIRECTORY);
    this.#nodes = nodes;
  }

  /** Of the layer's root. */
  get rootFd(): number {
    return this.#root.fd;
  }

  /** An O_PATH descriptor of a directory of the layer; it stays open until the request has been answered. */
  directory(node: Node): number {
    if (node.fd >= 0) return node.fd;
    const name = node.names[0];
    if (name === undefined) return this.#root.fd;
    const flags = C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW;
    node.fd = sys.openat(this.directory(name.parent), name.name, flags);
    this.#open.add(node);
    return node.fd;
  }

  /** Closes what has been open longest. To be called between requests. A removed directory cannot be opened again. */
  trim(): void {
    if (this.#open.size <= MOST_OPEN) return;
    for (const node of this.#open) {
      if (this.#open.size <= MOST_OPEN / 2) return;
      this.#open.delete(node);
      if (node.isRemoved || node.fd < 0) continue;
      raw.close(node.fd);
      node.fd = -1;
    }
  }

  stat(path: ByteString): sys.Stat | undefined {
    const [fd, name] = this.#at(path);
    const stat = raw.statx(fd, name);
    if (typeof stat !== "number") return stat;
    if (stat === -ENOENT) return undefined;
    throw new SyscallError("statx", -stat);
  }

  list(path: ByteString): sys.DirEntry[] {
    const [fd] = this.#at(`${path}/`);
    using directory = new sys.OwnedFd(sys.openat(fd, ".", C.O_RDONLY | C.O_DIRECTORY));
    return sys.readdir(directory.fd);
  }

  readlink(path: ByteString): ByteString {
    return sys.readlinkat(...this.#at(path));
  }

  getxattr(path: ByteString, name: ByteString): Buffer | undefined {
    return sys.lgetxattrat(...this.#at(path), name);
  }

  listxattr(path: ByteString): ByteString[] {
    return sys.llistxattrat(...this.#at(path));
  }

  birthTime(path: ByteString): readonly [number, number] | undefined {
    return sys.birthTime(...this.#at(path));
  }

  open(path: ByteString): sys.OwnedFd {
    return new sys.OwnedFd(sys.openat(...this.#at(path), C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK));
  }

  openPath(path: ByteString): sys.OwnedFd {
    return new sys.OwnedFd(sys.openat(...this.#at(path), C.O_PATH | C.O_NOFOLLOW));
  }

  extent(): undefined {
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#root[Symbol.dispose]();
  }

  #at(path: ByteString): [fd: number, name: ByteString] {
    const slash = path.indexOf("/");
    if (path === "") return [this.#root.fd, "."];
    // A mark beside the root, before there are nodes.
    if (!path.startsWith("#")) return [this.#root.fd, path];
    const id = Number(path.slice(1, slash < 0 ? undefined : slash));
    const name = slash < 0 ? "" : path.slice(slash + 1);
    return [this.directory(this.#nodes.get(id)), name === "" ? "." : name];
  }
}
