/** The contents that a tar record refers to: files of a layer, and files that the layer itself has replaced. */
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { LayerStack } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import type { ContentSource } from "./source.ts";

const openFlags = C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK | C.O_NOCTTY;
const beneath = C.RESOLVE_BENEATH | C.RESOLVE_NO_SYMLINKS | C.RESOLVE_NO_MAGICLINKS;
const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;
const EINVAL = 22;
const ENAMETOOLONG = 36;
const EXDEV = 18;

/** Opens the contents. Most lie in the layer itself; the merged view is asked only for what does not. */
export class RecordContents implements Disposable {
  readonly #content: ContentSource;
  readonly #spillDir: ByteString;
  readonly #top: sys.OwnedFd;
  #spill: sys.OwnedFd | undefined;
  #stack: LayerStack | undefined;

  constructor(content: ContentSource, spillDir: ByteString) {
    const top = content.layers[0];
    if (top === undefined) throw new LamellaError("invalid_argument", "NO_LAYERS", "a content source needs a layer");
    this.#content = content;
    this.#spillDir = spillDir;
    this.#top = sys.open(top, C.O_PATH | C.O_DIRECTORY);
  }

  [Symbol.dispose](): void {
    this.#top[Symbol.dispose]();
    this.#spill?.[Symbol.dispose]();
    this.#stack?.[Symbol.dispose]();
  }

  /**
   * Opens a file that must be `sizeBytes` long; `spill` is its number when it was replaced. The caller closes the descriptor.
   * Errors: data_loss (CONTENT_LOST) that names the file.
   */
  open(path: ByteString, sizeBytes: number, spill: number | undefined): number {
    const fd = spill === undefined ? this.#openInLayer(path) : this.#openSpilled(path, spill);
    const stat = raw.statx(fd, "", C.AT_EMPTY_PATH);
    if (typeof stat === "number") throw new SyscallError("statx", -stat, textOfBytes(path));
    const problem =
      (stat.mode & C.S_IFMT) !== C.S_IFREG
        ? "is no regular file any more"
        : stat.size !== sizeBytes
          ? `has ${stat.size} bytes instead of ${sizeBytes}`
          : undefined;
    if (problem !== undefined) {
      raw.close(fd);
      throw lostContent(path, problem);
    }
    // The number of blocks says nothing: attributes that do not fit the inode take one.
    if (sizeBytes === 0 || !this.#isMetacopy(fd)) return fd;
    raw.close(fd);
    return this.#openMerged(path);
  }

  /** When the file's inode last changed, in seconds; undefined when it cannot be opened. */
  changedAt(path: ByteString): number | undefined {
    const fd = raw.openat2(this.#top.fd, path, openFlags, 0, beneath);
    if (fd < 0) return undefined;
    using file = new sys.OwnedFd(fd);
    const stat = sys.fstat(file.fd);
    return stat.ctimeSec + stat.ctimeNsec / 1e9;
  }

  #openInLayer(path: ByteString): number {
    const fd = raw.haveOpenat2 ? raw.openat2(this.#top.fd, path, openFlags, 0, beneath) : -ENOENT;
    if (fd >= 0) return fd;
    if (fd === -ENOENT || fd === -ENOTDIR || fd === -ELOOP) return this.#openMerged(path);
    // No layer ever held such a path: the record is damaged.
    if (fd === -EINVAL || fd === -ENAMETOOLONG || fd === -EXDEV) throw lostContent(path, "is no path in a layer");
    throw new SyscallError("openat2", -fd, textOfBytes(path));
  }

  #openMerged(path: ByteString): number {
    this.#stack ??= LayerStack.open(this.#content.layers, this.#content);
    const entry = this.#stack.lookup(path);
    if (entry === undefined) throw lostContent(path, "is missing");
    if ((entry.stat.mode & C.S_IFMT) !== C.S_IFREG) throw lostContent(path, "is no regular file any more");
    return this.#stack.open(entry).release();
  }

  #openSpilled(path: ByteString, spill: number): number {
    try {
      this.#spill ??= sys.open(this.#spillDir, C.O_PATH | C.O_DIRECTORY);
      return sys.openat(this.#spill.fd, String(spill), openFlags);
    } catch (error) {
      throw lostContent(
        path,
        `was replaced by its own layer, and its first content (number ${spill}) is missing`,
        error,
      );
    }
  }

  /** A file whose inode alone was copied up has its size but not its data. */
  #isMetacopy(fd: number): boolean {
    return typeof raw.fgetxattr(fd, `${this.#content.prefix}metacopy`) !== "number";
  }
}

/** The error for a file of the layer that is not what it was when the record was written. */
export function lostContent(path: ByteString, what: string, cause?: unknown): LamellaError {
  return new LamellaError("data_loss", "CONTENT_LOST", `/${textOfBytes(path)} ${what}`, {
    hint: "the layer's files were changed behind Lamella's back; import or load the image again",
    cause,
  });
}
