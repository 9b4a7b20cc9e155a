/**
 * An example of a file system: a read-only directory of files that lie in memory. As a program it mounts one at its first
 * argument and serves it until it is unmounted; it prints `ready` when the mount is there.
 */
import { writeSync } from "node:fs";
import type { DirectorySink, Entry, FileSystem, Opened } from "../../src/fuse/file-system.ts";
import { mountFuse } from "../../src/fuse/mount.ts";
import { FOPEN_KEEP_CACHE, ROOT_NODE } from "../../src/fuse/protocol.ts";
import { serve } from "../../src/fuse/session.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";

const ENOENT = 2;

class MemoryFileSystem implements FileSystem {
  readonly validSec = 3600;
  /** A file's node is 2 and its place here; handles are nodes. */
  readonly #files: readonly (readonly [name: string, content: Buffer])[];
  readonly #like = sys.statx(C.AT_FDCWD, "/");

  constructor(files: Readonly<Record<string, Buffer>>) {
    this.#files = Object.entries(files);
  }

  lookup(_parent: number, name: string): Entry | number {
    const at = this.#files.findIndex(([each]) => each === name);
    return at < 0 ? -ENOENT : { node: at + 2, stat: this.getattr(at + 2) };
  }

  forget(): void {}

  getattr(node: number): sys.Stat {
    const size = this.#content(node).length;
    const mode = node === ROOT_NODE ? C.S_IFDIR | 0o755 : C.S_IFREG | 0o444;
    return { ...this.#like, mode, nlink: 1, size, blocks: Math.ceil(size / 512), inoLow: node, inoHigh: 0 };
  }

  open(node: number): Opened {
    return { handle: node, flags: FOPEN_KEEP_CACHE };
  }

  read(handle: number, into: Uint8Array, offset: number): number {
    const part = this.#content(handle).subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }

  readdir(_node: number, offset: number, sink: DirectorySink): number {
    for (let at = offset; at < this.#files.length; at++) {
      const name = this.#files[at]?.[0] ?? "";
      if (!sink.fits(name)) break;
      const node = at + 2;
      if (sink.plus) sink.addEntry(name, at + 1, { node, stat: this.getattr(node) });
      else sink.add(name, at + 1, C.DT_REG, this.getattr(node));
    }
    return 0;
  }

  #content(node: number): Buffer {
    return this.#files[node - 2]?.[1] ?? Buffer.alloc(0);
  }
}

const [target = ""] = process.argv.slice(2);
const files = {
  hello: Buffer.from("hello, world\n"),
  big: Buffer.alloc(5_000_000, "0123456789abcdef"),
  empty: Buffer.alloc(0),
};
using device = mountFuse({ target, source: "memory", subtype: "memory", allowOther: false });
writeSync(1, "ready\n");
serve(device.fd, new MemoryFileSystem(files));
