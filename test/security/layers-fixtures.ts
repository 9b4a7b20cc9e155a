/** What the tests of the applier share: building tars, applying them in one thread, describing what came of it. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AppliedLayer, LayerApplier } from "../../src/diff/apply-applier.ts";
import type { ApplyTarget } from "../../src/diff/source.ts";
import { TarRecordFile } from "../../src/diff/tar-record.ts";
import { encodeMoves, frameBytes, frameKind } from "../../src/diff/tar-record-format.ts";
import { TarMaker } from "../../src/diff/tar-record-job.ts";
import { DigestMarks } from "../../src/diff/tar-record-marks.ts";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { linkPart } from "../../src/fs/link-tree.ts";
import { removeTree } from "../../src/fs/remove-tree.ts";
import { BOTH, WorkShare } from "../../src/fs/walk-share.ts";
import { type ByteString, bytesOfText } from "../../src/lib/bytes.ts";
import type { LayerMarks } from "../../src/overlayfs/layer-marks.ts";
import { LayerStack, type MergedEntry } from "../../src/overlayfs/layer-stack.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import type { TarEntryType, TarHeader } from "../../src/tar/entry.ts";
import { TarWriter } from "../../src/tar/writer.ts";

/** True in the initial user namespace, where trusted attributes and devices can be made. */
export const isInitialUserns = /^\s*0\s+0\s+4294967295$/m.test(readFileSync("/proc/self/uid_map", "utf8"));
export const prefix = isInitialUserns ? "trusted.overlay." : "user.overlay.";

/** An entry for {@link tarOf}: all but the name has a default. */
export interface Item extends Partial<Omit<TarHeader, "name" | "size">> {
  readonly name: ByteString;
  readonly data?: string | Uint8Array | undefined;
}

export function item(type: TarEntryType, name: ByteString, more: Partial<Item> = {}): Item {
  return { name, type, ...more };
}
export const file = (name: ByteString, data = `content of ${name}`, more: Partial<Item> = {}): Item =>
  item("file", name, { data, ...more });
export const dir = (name: ByteString, more: Partial<Item> = {}): Item =>
  item("directory", name, { mode: 0o755, ...more });
export const symlink = (name: ByteString, linkName: ByteString): Item =>
  item("symlink", name, { linkName, mode: 0o777 });
export const hardlink = (name: ByteString, linkName: ByteString): Item => item("hardlink", name, { linkName });

/** One entry's header, data and padding. */
export function entryBytes(entry: Item): Buffer {
  const { data, ...rest } = entry;
  const bytes = data === undefined ? Buffer.alloc(0) : typeof data === "string" ? Buffer.from(data, "latin1") : data;
  const header: TarHeader = {
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeSec: 1_600_000_000,
    type: "file",
    ...rest,
    size: bytes.length,
  };
  const writer = new TarWriter();
  return Buffer.concat([Buffer.from(writer.header(header)), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

export function tarOf(...entries: readonly (Item | Uint8Array)[]): Buffer {
  const parts = entries.map((entry) => (entry instanceof Uint8Array ? entry : entryBytes(entry)));
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** Changes a header block and corrects its checksum. */
export function patched(entry: Item, change: (block: Buffer) => void): Buffer {
  const bytes = entryBytes(entry);
  change(bytes);
  fixChecksum(bytes);
  return bytes;
}

export function fixChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (let i = 0; i < 512; i++) sum += block[i] as number;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

/** A PAX header with the records as given, malformed or not. */
export function paxBytes(records: string): Buffer {
  const bytes = entryBytes({ name: "pax", type: "file", data: records });
  bytes[156] = 0x78;
  fixChecksum(bytes);
  return bytes;
}

export function paxRecord(key: string, value: string): string {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return `${length}${body}`;
}

/** A directory with a stranger's file next to what the tests write; removed at the end. */
export class Playground implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "lamella-layers-"));
  readonly victim = join(this.path, "victim");
  #next = 0;

  constructor() {
    mkdirSync(this.victim);
    writeFileSync(join(this.victim, "hello"), "untouched");
    writeFileSync(join(this.path, "f"), "untouched");
  }

  /** A new empty directory. */
  dir(): ByteString {
    const path = join(this.path, `d${this.#next++}`);
    mkdirSync(path, { mode: 0o755 });
    return bytesOfText(path);
  }

  /** Fails when anything outside the directories made here has changed. */
  assertUntouched(): void {
    const outside = describeTree(bytesOfText(this.path), (path) => !/^d[0-9]+($|\/)|^spill/.test(path));
    assert.deepEqual([...outside.keys()].sort(), ["", "f", "victim", "victim/hello"]);
    for (const name of ["f", "victim/hello"]) {
      const entry = outside.get(name) as Described;
      assert.equal(entry.content, "untouched");
      assert.equal(entry.mode, 0o100644);
    }
  }

  [Symbol.dispose](): void {
    removeTree(bytesOfText(this.path));
  }
}

/** What layers are applied to; `links`: `remove` in a tree of hard links of the layer before, which must stay as it was. */
export type Mode = ApplyTarget["whiteouts"] | "links";
export const modes: readonly Mode[] = ["overlay", "aufs", "remove", "links"];

/**
 * Applies tars one on the other, in one of the modes, and answers what the result looks like. Every tar that applies is made
 * again from its record and compared byte for byte.
 */
export class Layers implements Disposable {
  readonly ground: Playground;
  readonly mode: Mode;
  /** The uppermost first. */
  readonly paths: ByteString[] = [];
  #spills = 0;

  constructor(ground: Playground, mode: Mode) {
    this.ground = ground;
    this.mode = mode;
  }

  /** True when a layer holds its own objects alone. */
  get stacks(): boolean {
    return this.mode === "overlay" || this.mode === "aufs";
  }

  get #marks(): LayerMarks {
    return this.mode === "aufs" ? { prefix, marks: "any" } : { prefix };
  }

  /** Applies one more layer; `chunkBytes` cuts the tar into pieces. */
  apply(tar: Uint8Array, chunkBytes = 65_536): AppliedLayer {
    const before = this.paths[0];
    if (this.mode !== "links" || before === undefined) return this.#apply(tar, chunkBytes);
    const described = describeTree(before);
    const root = this.ground.dir();
    linkTree(before, root);
    this.paths[0] = root;
    try {
      return this.#apply(tar, chunkBytes);
    } finally {
      assert.deepEqual(describeTree(before), described, "an object of the layer below was changed");
    }
  }

  #apply(tar: Uint8Array, chunkBytes: number): AppliedLayer {
    if (this.stacks || this.paths.length === 0) this.paths.unshift(this.ground.dir());
    const lowers = this.paths.slice(1);
    const whiteouts = this.mode === "links" ? "remove" : this.mode;
    const target: ApplyTarget = { whiteouts, root: this.paths[0] as ByteString, lowers, ...this.#marks };
    const spillDir = bytesOfText(join(this.ground.path, `spill${++this.#spills}`));
    const recordPath = bytesOfText(join(this.ground.path, "spill-record"));
    const frame = Buffer.alloc(frameBytes);
    using record = new TarRecordFile(recordPath);
    using applier = new LayerApplier({
      target,
      spillDir,
      record: {
        begin: () => frame,
        finish: (length) => record.frame(frameKind.operations, frame.subarray(0, length)),
      },
      openLower: () => LayerStack.open(lowers, this.#marks),
    });
    const marks = new DigestMarks();
    for (let at = 0; at < tar.length; at += chunkBytes) {
      marks.update(tar.subarray(at, at + chunkBytes));
      applier.push(tar.subarray(at, at + chunkBytes));
    }
    const applied = applier.end();
    if (applied.moves.length > 0) record.frame(frameKind.moves, encodeMoves(applied.moves));
    const { sha256, table } = marks.end();
    if (table.length > 0) record.frame(frameKind.marks, table);
    record.close(tar.length);
    const content = { layers: this.paths, ...this.#marks };
    const pieces: Uint8Array[] = [];
    const job = { recordPath, spillDir, content, sha256, credit: new SharedArrayBuffer(8) };
    using maker = new TarMaker(job, (piece) => pieces.push(piece));
    maker.make();
    assert.ok(Buffer.concat(pieces).equals(tar), "the record gives other bytes");
    return applied;
  }

  /** Applies entries; the whole tree afterwards. */
  layer(...entries: readonly (Item | Uint8Array)[]): Tree {
    this.apply(tarOf(...entries));
    return this.tree();
  }

  /** Applies entries that must be refused; the error. Nothing outside may have changed. */
  refused(...entries: readonly (Item | Uint8Array)[]): LamellaError {
    try {
      this.apply(tarOf(...entries));
    } catch (error) {
      assert.ok(error instanceof LamellaError, String(error));
      this.ground.assertUntouched();
      return error;
    }
    assert.fail("the layer was applied");
  }

  tree(): Tree {
    return this.stacks ? describeMerged(this.paths, this.#marks) : describeTree(this.paths[0] as ByteString);
  }

  [Symbol.dispose](): void {
    this.ground.assertUntouched();
  }
}

function linkTree(from: ByteString, to: ByteString): void {
  using source = sys.open(from, C.O_RDONLY | C.O_DIRECTORY);
  using target = sys.open(to, C.O_RDONLY | C.O_DIRECTORY);
  const share = WorkShare.start(BOTH).memory;
  linkPart({ share, fromFd: source.fd, toFd: target.fd }, () => undefined);
}

export interface Described {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: string;
  readonly content: string | undefined;
  readonly rdev: string;
  readonly xattrs: Readonly<Record<string, string>>;
}
export type Tree = Map<ByteString, Described>;

function describe(stat: sys.Stat, content: string | undefined, xattrs: [ByteString, Buffer][]): Described {
  return {
    mode: stat.mode,
    uid: stat.uid,
    gid: stat.gid,
    mtime: `${stat.mtimeSec}.${stat.mtimeNsec}`,
    content,
    rdev: `${stat.rdevMajor}:${stat.rdevMinor}`,
    xattrs: Object.fromEntries(xattrs.map(([name, value]) => [name, value.toString("latin1")])),
  };
}

function contentOf(fd: number): string {
  const buffer = Buffer.alloc(sys.fstat(fd).size);
  let at = 0;
  while (at < buffer.length) at += sys.read(fd, buffer.subarray(at));
  return buffer.toString("latin1");
}

/** A directory on disk, never through symbolic links. The root's time is left out. */
export function describeTree(root: ByteString, isWanted: (path: ByteString) => boolean = () => true): Tree {
  const tree: Tree = new Map();
  const visit = (dirfd: number, name: ByteString, path: ByteString): void => {
    if (!isWanted(path)) return;
    const stat = sys.statx(dirfd, name);
    const type = stat.mode & C.S_IFMT;
    const xattrs = sys
      .llistxattrat(dirfd, name)
      .sort()
      .map((key): [ByteString, Buffer] => [key, sys.lgetxattrat(dirfd, name, key) ?? Buffer.alloc(0)]);
    let content: string | undefined;
    if (type === C.S_IFLNK) content = sys.readlinkat(dirfd, name);
    if (type === C.S_IFREG) {
      using fd = new sys.OwnedFd(sys.openat(dirfd, name, C.O_RDONLY | C.O_NOFOLLOW));
      content = contentOf(fd.fd);
    }
    const described = describe(stat, content, xattrs);
    tree.set(path, path === "" ? { ...described, mtime: "" } : described);
    if (type !== C.S_IFDIR) return;
    using fd = new sys.OwnedFd(sys.openat(dirfd, name, C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW));
    for (const child of sys.readdir(fd.fd))
      visit(fd.fd, child.name, path === "" ? child.name : `${path}/${child.name}`);
  };
  using top = sys.open(root, C.O_RDONLY | C.O_DIRECTORY);
  visit(top.fd, ".", "");
  return new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The merged view of layers, the uppermost first. */
export function describeMerged(paths: readonly ByteString[], marks: LayerMarks = { prefix }): Tree {
  using stack = LayerStack.open(paths, marks);
  const tree: Tree = new Map();
  const visit = (entry: MergedEntry): void => {
    const type = entry.stat.mode & C.S_IFMT;
    let content: string | undefined;
    if (type === C.S_IFLNK) content = stack.readlink(entry);
    if (type === C.S_IFREG) {
      using fd = stack.open(entry);
      content = contentOf(fd.fd);
    }
    const xattrs = stack.xattrs(entry).map(({ name, value }): [ByteString, Buffer] => [name, value]);
    const described = describe(entry.stat, content, xattrs);
    tree.set(entry.path, entry.path === "" ? { ...described, mtime: "" } : described);
    if (type !== C.S_IFDIR) return;
    for (const name of stack.list(entry)) {
      const child = stack.lookupIn(entry, name);
      assert.ok(child, `${entry.path}/${name} is listed but not there`);
      visit(child);
    }
  };
  visit(stack.root);
  return new Map([...tree].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The names of a tree, without its root, joined by spaces. */
export function names(tree: Tree): string {
  return [...tree.keys()].filter((name) => name !== "").join(" ");
}
