/** Reads the manifest of a tree. The bytes lie in shared memory: threads read one copy. */
import { crc32 } from "node:zlib";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, OwnedFd, read, type Stat } from "../sys/syscalls.ts";
import { type ClockStamp, parseClockStamp } from "./clock-stamp.ts";
import {
  blockAt,
  blockBytes,
  entryAt,
  entryBytes,
  entryType,
  headerAt,
  headerBytes,
  manifestMagic,
  pathHash,
} from "./tree-manifest-format.ts";

/** Loads a manifest; undefined when there is none, or it is not whole. */
export function loadManifest(path: ByteString): TreeManifest | undefined {
  const fd = raw.openat(C.AT_FDCWD, path, C.O_RDONLY | C.O_NOFOLLOW);
  if (fd < 0) return undefined;
  using file = new OwnedFd(fd);
  const memory = new SharedArrayBuffer(fstat(file.fd).size);
  const bytes = Buffer.from(memory);
  for (let end = 0; end < bytes.length; ) {
    const n = read(file.fd, bytes.subarray(end));
    if (n === 0) return undefined;
    end += n;
  }
  if (bytes.length < headerBytes || bytes.toString("latin1", 0, manifestMagic.length) !== manifestMagic)
    return undefined;
  if (crc32(bytes.subarray(headerAt.slots)) !== bytes.readUInt32LE(headerAt.checksum)) return undefined;
  return new TreeManifest(memory);
}

/** A manifest in memory: enter a directory, then ask about its names. */
export class TreeManifest {
  readonly memory: SharedArrayBuffer;
  readonly #bytes: Buffer;
  readonly #slots: number;
  /** The entries of the directory that was entered. */
  #entries = 0;
  #start = 0;
  /** The next entry, and how many are left: names are asked for in the order they were written in, as a rule. */
  #next = 0;
  #left = 0;
  #lastName: ByteString | undefined;
  #lastEntry: number | undefined;
  #byName: Map<ByteString, number> | undefined;

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.#bytes = Buffer.from(memory);
    this.#slots = this.#bytes.readUInt32LE(headerAt.slots);
  }

  /** The stamp that the manifest was taken under; undefined when this program cannot read it. */
  get clock(): ClockStamp | undefined {
    const start = headerBytes + this.#slots * 4;
    const text = this.#bytes.toString("latin1", start, start + this.#bytes.readUInt32LE(headerAt.stampBytes));
    return parseClockStamp(JSON.parse(text));
  }

  /** What is asked next is about names in the directory of this path; it has none when the manifest does not know it. */
  enter(path: ByteString): void {
    const bytes = this.#bytes;
    this.#lastName = undefined;
    this.#byName = undefined;
    this.#entries = 0;
    this.#left = 0;
    for (let slot = pathHash(path) & (this.#slots - 1); ; slot = (slot + 1) & (this.#slots - 1)) {
      const block = bytes.readUInt32LE(headerBytes + slot * 4);
      if (block === 0) return;
      const start = block + blockBytes;
      const end = start + bytes.readUInt32LE(block + blockAt.pathBytes);
      if (end - start !== path.length || bytes.toString("latin1", start, end) !== path) continue;
      this.#entries = bytes.readUInt32LE(block + blockAt.entries);
      this.#start = end;
      this.#next = end;
      this.#left = this.#entries;
      return;
    }
  }

  /** True when the name stands for the inode it stood for, and that has not changed since. */
  has(name: ByteString, stat: Stat): boolean {
    const entry = this.#entry(name);
    return entry !== undefined && this.#isInode(entry, stat) && this.#isTime(entry, stat);
  }

  /** As {@link has}, of the root. */
  hasRoot(stat: Stat): boolean {
    return this.#isInode(headerAt.root, stat) && this.#isTime(headerAt.root, stat);
  }

  /** The number of the inode that the name stood for; undefined for a name that was not there. */
  inode(name: ByteString): string | undefined {
    const entry = this.#entry(name);
    if (entry === undefined) return undefined;
    return `${this.#bytes.readUInt32LE(entry + entryAt.inode + 4)}:${this.#bytes.readUInt32LE(entry + entryAt.inode)}`;
  }

  #isInode(entry: number, { inoLow, inoHigh, mode }: Stat): boolean {
    const bytes = this.#bytes;
    return (
      bytes.readUInt32LE(entry + entryAt.inode) === inoLow &&
      bytes.readUInt32LE(entry + entryAt.inode + 4) === inoHigh &&
      bytes[entry + entryAt.type] === entryType(mode)
    );
  }

  #isTime(entry: number, { ctimeSec, ctimeNsec }: Stat): boolean {
    const bytes = this.#bytes;
    const low = bytes.readUInt32LE(entry + entryAt.ctimeSec);
    const high = bytes.readInt32LE(entry + entryAt.ctimeSec + 4);
    return bytes.readUInt32LE(entry + entryAt.ctimeNsec) === ctimeNsec && low + high * 2 ** 32 === ctimeSec;
  }

  /** Offset of the name's entry. */
  #entry(name: ByteString): number | undefined {
    if (this.#lastName === name) return this.#lastEntry;
    let entry: number | undefined;
    if (this.#byName === undefined && this.#left > 0 && this.#isName(this.#next, name)) {
      entry = this.#next;
      this.#next += entryBytes + name.length;
      this.#left--;
    } else entry = this.#names().get(name);
    this.#lastName = name;
    this.#lastEntry = entry;
    return entry;
  }

  /** Without a string of its own: asked once for each name of the tree. */
  #isName(entry: number, name: ByteString): boolean {
    const bytes = this.#bytes;
    if (bytes[entry + entryAt.nameBytes] !== name.length) return false;
    const start = entry + entryBytes;
    for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name.charCodeAt(i)) return false;
    return true;
  }

  #names(): Map<ByteString, number> {
    if (this.#byName !== undefined) return this.#byName;
    const names = new Map<ByteString, number>();
    for (let i = 0, entry = this.#start; i < this.#entries; i++) {
      const start = entry + entryBytes;
      const name = this.#bytes.toString("latin1", start, start + (this.#bytes[entry + entryAt.nameBytes] ?? 0));
      names.set(name, entry);
      entry += entryBytes + name.length;
    }
    this.#byName = names;
    return names;
  }
}
