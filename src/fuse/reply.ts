/**
 * The reply that a session is making: one buffer for all of them, sent by one write. What lies behind the header is the
 * body; an operation writes it, and answers how long it is.
 */
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import type { Stat, StatFs } from "../sys/syscalls.ts";
import type { DirectorySink, Entry, FileSystem, Opened } from "./file-system.ts";
import { OUT_HEADER } from "./protocol.ts";

const HIGH = 4294967296;
/** fuse_attr, fuse_entry_out and fuse_dirent without its name, in bytes. */
const ATTR = 88;
const ENTRY = 40 + ATTR;
const DIRENT = 24;
/** fuse_statx_out: how long it is good for, and a statx structure. */
const STATX_OUT = 32 + 256;
/** What stat(2) recommends for reading and writing. */
const BLOCK_SIZE = 4096;

export class Reply {
  readonly buffer: Buffer;
  /** Behind the header. */
  readonly body: Buffer;
  readonly #words: Uint32Array;
  readonly #fs: Pick<FileSystem, "validSec" | "isStale">;

  /** `bodyBytes`: the longest body. `fs` says how long the kernel may keep what it is told. */
  constructor(bodyBytes: number, fs: Pick<FileSystem, "validSec" | "isStale">) {
    this.buffer = Buffer.allocUnsafeSlow(OUT_HEADER + bodyBytes);
    this.body = this.buffer.subarray(OUT_HEADER);
    this.#words = new Uint32Array(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length >>> 2);
    this.#fs = fs;
  }

  /** Writes a field of the body. */
  u32(at: number, value: number): void {
    this.#words[(OUT_HEADER + at) >>> 2] = value;
  }

  u64(at: number, value: number): void {
    this.u32(at, value);
    this.u32(at + 4, Math.floor(value / HIGH));
  }

  clear(at: number, length: number): void {
    this.body.fill(0, at, at + length);
  }

  /** The header. `result` is the body's length or a negative errno; answers the whole length. */
  head(result: number, uniqueLow: number, uniqueHigh: number): number {
    const length = OUT_HEADER + Math.max(0, result);
    this.#words[0] = length;
    this.#words[1] = Math.min(0, result);
    this.#words[2] = uniqueLow;
    this.#words[3] = uniqueHigh;
    return length;
  }

  /** fuse_attr. */
  #attributes(at: number, stat: Stat): void {
    this.u32(at, stat.inoLow);
    this.u32(at + 4, stat.inoHigh);
    this.u64(at + 8, stat.size);
    this.u64(at + 16, stat.blocks);
    this.u64(at + 24, stat.atimeSec);
    this.u64(at + 32, stat.mtimeSec);
    this.u64(at + 40, stat.ctimeSec);
    this.u32(at + 48, stat.atimeNsec);
    this.u32(at + 52, stat.mtimeNsec);
    this.u32(at + 56, stat.ctimeNsec);
    this.u32(at + 60, stat.mode);
    this.u32(at + 64, stat.nlink);
    this.u32(at + 68, stat.uid);
    this.u32(at + 72, stat.gid);
    this.u32(at + 76, encodeDevice(stat.rdevMajor, stat.rdevMinor));
    this.u32(at + 80, BLOCK_SIZE);
    this.u32(at + 84, 0);
  }

  /**
   * How long attributes are good for. Set-id bits may go by a write that is passed through, of which the kernel notes that it
   * changed size and times, but not the mode.
   */
  #validOf(node: number, stat: Stat): number {
    const isFile = (stat.mode & C.S_IFMT) === C.S_IFREG;
    return isFile && ((stat.mode & 0o6000) !== 0 || this.#fs.isStale?.(node)) ? 0 : this.#fs.validSec;
  }

  /** fuse_attr_out; its length. */
  attributes(node: number, stat: Stat): number {
    this.u64(0, this.#validOf(node, stat));
    this.u64(8, 0);
    this.#attributes(16, stat);
    return 16 + ATTR;
  }

  /** fuse_statx_out; its length. `birth`: in seconds and nanoseconds. */
  extended(node: number, stat: Stat, birth: readonly [number, number] | undefined): number {
    const at = 32;
    this.clear(0, STATX_OUT);
    this.u64(0, this.#validOf(node, stat));
    this.u32(at, C.STATX_BASIC_STATS | (birth === undefined ? 0 : C.STATX_BTIME));
    this.u32(at + 4, BLOCK_SIZE);
    this.u32(at + 16, stat.nlink);
    this.u32(at + 20, stat.uid);
    this.u32(at + 24, stat.gid);
    this.u32(at + 28, stat.mode);
    this.u32(at + 32, stat.inoLow);
    this.u32(at + 36, stat.inoHigh);
    this.u64(at + 40, stat.size);
    this.u64(at + 48, stat.blocks);
    const times = [
      [stat.atimeSec, stat.atimeNsec],
      birth ?? [0, 0],
      [stat.ctimeSec, stat.ctimeNsec],
      [stat.mtimeSec, stat.mtimeNsec],
    ] as const;
    for (const [i, [sec, nsec]] of times.entries()) {
      this.u64(at + 64 + i * 16, sec);
      this.u32(at + 72 + i * 16, nsec);
    }
    this.u32(at + 128, stat.rdevMajor);
    this.u32(at + 132, stat.rdevMinor);
    return STATX_OUT;
  }

  /** fuse_entry_out; its length. */
  entry({ node, stat }: Entry, at = 0): number {
    this.u64(at, node);
    this.u64(at + 8, 0);
    this.u64(at + 16, this.#fs.validSec);
    this.u64(at + 24, this.#validOf(node, stat));
    this.u64(at + 32, 0);
    this.#attributes(at + 40, stat);
    return ENTRY;
  }

  /** A name that the kernel may take for missing until someone makes it. */
  missing(): number {
    this.clear(0, ENTRY);
    this.u64(16, this.#fs.validSec);
    return ENTRY;
  }

  /** fuse_open_out, behind what has been written; its length. */
  opened({ handle, flags, backing }: Opened, at = 0): number {
    this.u64(at, handle);
    this.u32(at + 8, flags);
    this.u32(at + 12, backing ?? 0);
    return 16;
  }

  created(created: Entry & Opened): number {
    return this.entry(created) + this.opened(created, ENTRY);
  }

  statfs(stat: StatFs): number {
    this.clear(0, 80);
    this.u64(0, stat.blocks);
    this.u64(8, stat.blocksFree);
    this.u64(16, stat.blocksAvailable);
    this.u64(24, stat.files);
    this.u64(32, stat.filesFree);
    this.u32(40, stat.blockSize);
    this.u32(44, stat.nameMax);
    this.u32(48, stat.blockSize);
    return 80;
  }

  /** Takes the entries of a directory into the body, `limit` bytes at most. */
  directory(limit: number, plus: boolean): DirectorySink & { readonly length: number } {
    return new DirectoryBody(this, Math.min(limit, this.body.length), plus);
  }
}

class DirectoryBody implements DirectorySink {
  readonly plus: boolean;
  readonly #reply: Reply;
  readonly #limit: number;
  length = 0;

  constructor(reply: Reply, limit: number, plus: boolean) {
    this.#reply = reply;
    this.#limit = limit;
    this.plus = plus;
  }

  fits(name: ByteString): boolean {
    return this.length + (this.plus ? ENTRY : 0) + padded(DIRENT + name.length) <= this.#limit;
  }

  add(name: ByteString, offset: number, type: number, stat: Pick<Stat, "inoLow" | "inoHigh">): void {
    // In an answer to READDIRPLUS an entry without a node is a name alone.
    if (this.plus) {
      this.#reply.clear(this.length, ENTRY);
      this.length += ENTRY;
    }
    this.#dirent(name, offset, type, stat);
  }

  addEntry(name: ByteString, offset: number, entry: Entry): void {
    this.length += this.#reply.entry(entry, this.length);
    this.#dirent(name, offset, (entry.stat.mode & C.S_IFMT) >>> 12, entry.stat);
  }

  #dirent(name: ByteString, offset: number, type: number, stat: Pick<Stat, "inoLow" | "inoHigh">): void {
    const at = this.length;
    const end = padded(DIRENT + name.length);
    this.#reply.u32(at, stat.inoLow);
    this.#reply.u32(at + 4, stat.inoHigh);
    this.#reply.u64(at + 8, offset);
    this.#reply.u32(at + 16, name.length);
    this.#reply.u32(at + 20, type);
    this.#reply.body.write(name, at + DIRENT, "latin1");
    this.#reply.clear(at + DIRENT + name.length, end - DIRENT - name.length);
    this.length += end;
  }
}

/** Records of a directory begin at multiples of eight bytes. */
function padded(length: number): number {
  return (length + 7) & ~7;
}

/** A device number in 32 bits, as the protocol has it (`new_encode_dev`). */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** Its major and minor parts. */
export function decodeDevice(device: number): readonly [number, number] {
  return [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
}
