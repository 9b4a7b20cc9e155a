/**
 * The index (`index=on`): hard links of a lower layer stay one file when it is copied up. The copy is made in the index, under
 * the file handle of what it is a copy of, and each name that the upper layer gets is a hard link of it. A name that lies
 * below alone finds the copy there.
 *
 *     workdir/index/              attribute `upper`: the file handle of the upper directory it belongs to
 *         00fb1d…                 the origin (./origin.ts) in hexadecimal; attribute `nlink`: how many names the union has
 *
 * `nlink` is relative to the links that the copy itself has, its own in the index counted: `U+1`, or to the links that the
 * file below has: `L-1`. The upper directory's `origin` is the handle of the uppermost lower directory: with others the
 * index means nothing.
 *
 * Source: fs/overlayfs/{copy_up.c,namei.c,inode.c}, ovl_verify_set_fh, ovl_get_nlink, ovl_set_nlink_common.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Folder } from "./open-layers.ts";
import { asUpper, originOf } from "./origin.ts";

const ENOENT = 2;

export class InodeIndex implements Disposable {
  readonly #folder: sys.OwnedFd;
  readonly #nlink: ByteString;

  /**
   * Opens the index in `work`, or makes it. Errors: failed_precondition when it, or the upper directory, was used with
   * others, or when file systems have no file handles. `lower`: the origin of the uppermost lower directory.
   */
  constructor(
    work: Folder,
    folders: { readonly upper: number; readonly lower: Buffer },
    mark: (name: string) => ByteString,
  ) {
    const path = `${work.at}/index`;
    sameAsBefore(folders.upper, mark("origin"), folders.lower, "the upper directory was used over another lower one");
    const made = raw.mkdirat(C.AT_FDCWD, path, 0o755);
    this.#folder = sys.open(path, C.O_RDONLY | C.O_DIRECTORY);
    this.#nlink = mark("nlink");
    try {
      if (made < 0) sys.fstat(this.#folder.fd);
      const upper = asUpper(originOf(folders.upper));
      sameAsBefore(
        this.#folder.fd,
        mark("upper"),
        upper,
        `${textOfBytes(work.path)}/index belongs to another upper directory`,
      );
    } catch (error) {
      this.#folder[Symbol.dispose]();
      throw error;
    }
  }

  get fd(): number {
    return this.#folder.fd;
  }

  /** The copy of what has this origin, undefined when there is none. */
  find(name: ByteString): sys.Stat | undefined {
    const stat = raw.statx(this.#folder.fd, name);
    if (typeof stat !== "number") return stat;
    if (stat === -ENOENT) return undefined;
    throw new LamellaError("internal", "INDEX", `the index: errno ${-stat}`);
  }

  /** How many names the union has of a copy. `below`: links of the file below. */
  links(name: ByteString, upper: number, below: number): number {
    const value = sys.lgetxattrat(this.#folder.fd, name, this.#nlink)?.toString("latin1") ?? "";
    const found = /^([UL])([+-]\d+)$/.exec(value);
    if (found === null) return upper;
    return (found[1] === "U" ? upper : below) + Number(found[2]);
  }

  /** To be called before the number changes together with the copy's own links: `links` names, `upper` links. */
  setLinks(name: ByteString, links: number, upper: number): void {
    const difference = links - upper;
    const value = `U${difference < 0 ? "" : "+"}${difference}`;
    sys.lsetxattrat(this.#folder.fd, name, this.#nlink, Buffer.from(value));
  }

  /** After the last name has gone. */
  remove(name: ByteString): void {
    raw.unlinkat(this.#folder.fd, name);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

/** The name of a copy; empty where the origin is unknown. */
export function indexName(origin: Buffer): ByteString {
  return origin.toString("hex");
}

function sameAsBefore(fd: number, mark: ByteString, handle: Buffer, otherwise: string): void {
  if (handle.length === 0)
    throw new LamellaError("failed_precondition", "NO_FILE_HANDLES", "index=on needs file systems with file handles", {
      hint: "mount without index=on",
    });
  const before = sys.fgetxattr(fd, mark);
  if (before === undefined) sys.fsetxattr(fd, mark, handle);
  else if (!before.equals(handle))
    throw new LamellaError("failed_precondition", "INDEX_MISMATCH", otherwise, {
      hint: "mount the layers that were mounted before, or without index=on",
    });
}
