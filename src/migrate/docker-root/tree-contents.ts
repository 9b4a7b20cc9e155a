/**
 * The files that a layer's tar-split names, as Docker would find them in the mounted layer: in the layer's own tree first,
 * else in the merged view, through symbolic links on the way. Docker follows those on the host; here an absolute one starts
 * at the layer's root, and nothing outside the trees is ever opened.
 */
import type { ContentSource } from "../../diff/source.ts";
import { RecordContents } from "../../diff/tar-record-source.ts";
import { isLamellaError, LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { LayerStack } from "../../overlayfs/layer-stack.ts";
import * as C from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";

export type TreeSource = ContentSource;

/** As the kernel (MAXSYMLINKS). */
const maxLinks = 40;

/** Opens the files of one layer. */
export class TreeContents implements Disposable {
  readonly #content: TreeSource;
  readonly #files: RecordContents;
  #stack: LayerStack | undefined;

  constructor(content: TreeSource) {
    this.#content = content;
    // A tar-split refers to nothing that the layer itself has replaced.
    this.#files = new RecordContents(content, "/nonexistent");
  }

  /** Opens a regular file of exactly that size. Errors: data_loss (CONTENT_LOST). */
  open(name: ByteString, sizeBytes: number): sys.OwnedFd {
    const path = withoutDots(name);
    const found = this.#openAt(path, sizeBytes);
    if (found !== undefined) return found;
    const resolved = this.#resolve(path);
    const behind = resolved === undefined || resolved === path ? undefined : this.#openAt(resolved, sizeBytes);
    if (behind !== undefined) return behind;
    throw damagedContent(name, `is missing, or no file of ${sizeBytes} bytes`);
  }

  #openAt(path: ByteString, sizeBytes: number): sys.OwnedFd | undefined {
    try {
      return new sys.OwnedFd(this.#files.open(path, sizeBytes, undefined));
    } catch (error) {
      if (isLamellaError(error) && error.code === "CONTENT_LOST") return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#stack?.[Symbol.dispose]();
    this.#files[Symbol.dispose]();
  }

  /** The path without symbolic links; undefined when it leads nowhere. */
  #resolve(path: ByteString): ByteString | undefined {
    this.#stack ??= LayerStack.open(this.#content.layers, this.#content);
    const todo = path.split("/").reverse();
    let done: ByteString[] = [];
    let links = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        done.pop();
        continue;
      }
      const entry = this.#stack.lookup([...done, name].join("/"));
      if (entry === undefined) return undefined;
      if ((entry.stat.mode & C.S_IFMT) !== C.S_IFLNK) {
        done.push(name);
        continue;
      }
      if (++links > maxLinks) return undefined;
      const target = this.#stack.readlink(entry);
      if (target.startsWith("/")) done = [];
      todo.push(...target.split("/").reverse());
    }
    return done.join("/");
  }
}

/** The error for a file that is not what Docker noted of it. */
export function damagedContent(name: ByteString, what: string): LamellaError {
  return new LamellaError("data_loss", "CONTENT_LOST", `/${textOfBytes(name)} ${what}`, {
    hint: "Docker's own copy of the layer is damaged: `docker rmi` the image, and pull, load or build it again",
  });
}

/** A tar's name as a path beneath the root: no `.`, no empty components, `..` stays inside. */
function withoutDots(name: ByteString): ByteString {
  const parts: ByteString[] = [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}
