/** Writes the manifest of a tree: one walk in the calling thread, one look at each name. */
import { crc32 } from "node:zlib";
import { parentPath, writeDurably } from "../fs/durable-file.ts";
import { ONE, type SharedDirectory, WorkShare, walkShared } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import { fstat, open, readdir, type Stat } from "../sys/syscalls.ts";
import { type ClockStamp, SettledTimes, takeClockStamp } from "./clock-stamp.ts";
import {
  blockAt,
  blockBytes,
  entryAt,
  entryBytes,
  entryType,
  headerAt,
  headerBytes,
  manifestMagic,
  noTime,
  pathHash,
} from "./tree-manifest-format.ts";
import { statOf } from "./trees-compare.ts";

export interface WriteManifestOptions {
  /** A stamp taken before anybody could write to the tree. Default: taken now, where the manifest is going to be. */
  readonly clock?: ClockStamp;
  /** Called for each directory; throwing ends the walk, and no manifest is written. */
  readonly checkpoint?: () => void;
}

/**
 * Writes the manifest of the tree at `tree` to `path`, on the same file system and outside the tree. Nothing may write to
 * the tree meanwhile. The file is not durable: one that a power cut damages is no manifest, and the hint is passed over.
 * Errors: SyscallError.
 */
export function writeManifest(tree: ByteString, path: ByteString, options: WriteManifestOptions = {}): void {
  // The stamp comes first: what is written to an object after it was looked at is after the stamp too.
  const clock = options.clock ?? takeClockStamp(parentPath(path));
  using root = open(tree, C.O_RDONLY | C.O_DIRECTORY);
  const blocks = new BlockWriter(new SettledTimes(clock));
  walkShared(WorkShare.start(ONE), { fd: root.fd, otherFd: -1 }, (directory) => {
    options.checkpoint?.();
    blocks.add(directory);
  });
  writeDurably(path, blocks.manifest(fstat(root.fd), clock), { mode: 0o600, durable: false });
}

class BlockWriter {
  readonly #settled: SettledTimes;
  readonly #directories: { readonly hash: number; readonly offset: number }[] = [];
  #bytes = Buffer.allocUnsafeSlow(256 * 1024);
  #end = 0;

  constructor(settled: SettledTimes) {
    this.#settled = settled;
  }

  add({ fd, path, subdirectories }: SharedDirectory): void {
    const start = this.#end;
    this.#directories.push({ hash: pathHash(path), offset: start });
    this.#reserve(blockBytes + path.length);
    this.#end += blockBytes;
    this.#end += this.#bytes.write(path, this.#end, "latin1");
    let entries = 0;
    for (const { name } of readdir(fd)) {
      const stat = statOf(fd, name, path);
      if (stat === undefined) continue;
      if ((stat.mode & C.S_IFMT) === C.S_IFDIR) subdirectories.push(ONE + name);
      this.#reserve(entryBytes + name.length);
      this.#entry(stat, name);
      entries++;
    }
    this.#bytes.writeUInt32LE(entries, start + blockAt.entries);
    this.#bytes.writeUInt32LE(path.length, start + blockAt.pathBytes);
  }

  /** The whole file. `root` is the root's own stat. */
  manifest(root: Stat, clock: ClockStamp): Buffer {
    const stamp = Buffer.from(JSON.stringify(clock), "latin1");
    let slots = 2;
    while (slots < this.#directories.length * 2) slots *= 2;
    const blocksStart = headerBytes + slots * 4 + stamp.length;
    const head = Buffer.alloc(blocksStart);
    head.write(manifestMagic, "latin1");
    head.writeUInt32LE(slots, headerAt.slots);
    head.writeUInt32LE(stamp.length, headerAt.stampBytes);
    writeEntry(head, headerAt.root, root, this.#settled);
    stamp.copy(head, headerBytes + slots * 4);
    for (const { hash, offset } of this.#directories) {
      let slot = hash & (slots - 1);
      while (head.readUInt32LE(headerBytes + slot * 4) !== 0) slot = (slot + 1) & (slots - 1);
      head.writeUInt32LE(blocksStart + offset, headerBytes + slot * 4);
    }
    const file = Buffer.concat([head, this.#bytes.subarray(0, this.#end)]);
    file.writeUInt32LE(crc32(file.subarray(headerAt.slots)), headerAt.checksum);
    return file;
  }

  #entry(stat: Stat, name: ByteString): void {
    writeEntry(this.#bytes, this.#end, stat, this.#settled);
    this.#bytes.writeUInt8(name.length, this.#end + entryAt.nameBytes);
    this.#end += entryBytes;
    this.#end += this.#bytes.write(name, this.#end, "latin1");
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow((this.#end + bytes) * 2);
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }
}

function writeEntry(into: Buffer, start: number, stat: Stat, settled: SettledTimes): void {
  into.writeUInt32LE(stat.inoLow, start + entryAt.inode);
  into.writeUInt32LE(stat.inoHigh, start + entryAt.inode + 4);
  into.writeUInt32LE((stat.ctimeSec % 2 ** 32) >>> 0, start + entryAt.ctimeSec);
  into.writeInt32LE(Math.floor(stat.ctimeSec / 2 ** 32), start + entryAt.ctimeSec + 4);
  into.writeUInt32LE(settled.has(stat) ? stat.ctimeNsec : noTime, start + entryAt.ctimeNsec);
  into.writeUInt8(entryType(stat.mode), start + entryAt.type);
  into.writeUInt8(0, start + entryAt.nameBytes);
}
