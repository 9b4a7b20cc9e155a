/**
 * The tar reader: an incremental state machine without input or output. Bytes go in with `push`, in pieces of any size;
 * what they mean comes out through a {@link TarHandler}, at once and in the same thread. Where the pieces are cut changes
 * nothing but how `raw` and `data` are cut.
 *
 * Reads v7, ustar, star, PAX (local and global headers), GNU long names, GNU sparse files in all four formats, and
 * base-256 numbers. Where the dialects leave a choice it reads as Go's archive/tar does, because that is what Docker and
 * containerd read layers with: links, directories, devices and fifos have no payload whatever their size field says; a GNU
 * long name wins over a PAX path; of several PAX headers before one entry the last counts. It differs in applying the
 * global header's times and owners, and in refusing what cannot be meant (see docs/formats/tar.md).
 *
 * Extension headers are measured by their own size field alone: a PAX `size` belongs to the entry, never to a header
 * between the two (CVE-2025-62518). Memory is bounded by the limits, never by what a header claims.
 *
 * The file is longer than most because it is one state machine: its states share all their fields.
 */
import type { ByteString } from "../lib/bytes.ts";
import { type SparseRegion, type TarEntry, type TarEntryType, tarError } from "./entry.ts";
import { blockBytes, dialectOf, type HeaderDialect, numberField, paddingOf, sumOfBlock, textField } from "./fields.ts";
import { type PaxFields, parsePax } from "./pax.ts";
import { addOldGnuRegions, SparseLines, SparseMap } from "./sparse.ts";

/** Where the reader delivers what it finds. All byte arrays are views that are valid during the call only. */
export interface TarHandler {
  /**
   * Every byte that is not payload: headers, extension headers with their data, sparse maps, padding, the end blocks and
   * whatever follows them. `raw` and `data` together, in the order of the calls, are exactly the stream. An entry's
   * headers come before its `entry`; its padding comes after its `endEntry`.
   */
  raw?(bytes: Uint8Array): void;
  /** An entry's header is complete. */
  entry(entry: TarEntry): void;
  /** The next payload bytes of the current entry, as the archive stores them (a sparse file's without its holes). */
  data?(bytes: Uint8Array): void;
  /** All `entry.size` bytes have been delivered. */
  endEntry?(entry: TarEntry): void;
}

/** Bounds on what one entry may make the reader hold in memory. */
export interface TarReaderLimits {
  /** Bytes of one PAX header's data, xattrs included. Default 32 MiB (the archive/tar of Go, and so Docker, stops at 1 MiB). */
  readonly paxBytes?: number | undefined;
  /** Bytes of a GNU long name or link. Default 1 MiB. */
  readonly nameBytes?: number | undefined;
  /** Regions of one sparse map. Default 1,000,000. */
  readonly sparseRegions?: number | undefined;
}

/**
 * How the archive ended: `complete` with two zero blocks, `short` with one, `open` with none (an empty stream is `open`).
 * Tars accept all three; only `complete` tells a whole archive from one cut between two entries.
 */
export type TarEnding = "complete" | "short" | "open";

const readHeader = 0;
const readExtension = 1;
const readOldSparse = 2;
const readSparseLines = 3;
const readData = 4;
const readPadding = 5;
const readTrailer = 6;
type State = 0 | 1 | 2 | 3 | 4 | 5 | 6;

const typesByFlag: Readonly<Record<number, TarEntryType>> = {
  0: "file",
  48: "file",
  49: "hardlink",
  50: "symlink",
  51: "char",
  52: "block",
  53: "directory",
  54: "fifo",
  55: "file", // contiguous file
  83: "file", // GNU sparse
};

const flagLongLink = 0x4b; // K
const flagLongName = 0x4c; // L
const flagGnuSparse = 0x53; // S
const flagPaxGlobal = 0x67; // g
const flagPax = 0x78; // x

const noXattrs: ReadonlyMap<ByteString, Buffer> = new Map();
const noBytes = Buffer.alloc(0);

/** Reads one tar stream. Any error is final: later calls throw it again. */
export class TarReader {
  readonly #handler: TarHandler;
  readonly #paxBytes: number;
  readonly #nameBytes: number;
  readonly #sparseRegions: number;

  #state: State = readHeader;
  #failure: unknown;
  /** The block that headers are parsed in; at the start of its own memory, so that it can be seen as words too. */
  readonly #block = Buffer.from(new ArrayBuffer(blockBytes));
  readonly #words = new Uint32Array(this.#block.buffer);
  /** Bytes of `#block` filled so far. */
  #filled = 0;

  /** The piece being read, where in it the reader stands, and how much of it has been delivered. */
  #chunk: Buffer = noBytes;
  #at = 0;
  #delivered = 0;
  /** Offset in the stream of the piece's first byte. */
  #base = 0;

  /** Bytes left of the current payload, extension data or padding. */
  #left = 0;
  #entry: TarEntry | undefined;
  #sparseLines: SparseLines | undefined;
  #oldSparse: SparseMap | undefined;
  /** A complete map that only the padding of its last block separates from the data. */
  #paddedMap: SparseMap | undefined;

  #extensionFlag = 0;
  #extension: Buffer = noBytes;
  #extensionFilled = 0;
  /** Where the first header of the entry to come lies. */
  #headerOffset = 0;
  #hasExtension = false;
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;
  #pax: PaxFields | undefined;
  #global: PaxFields | undefined;

  #zeroBlocks = 0;
  #name: ByteString = "";
  #uname: ByteString = "";
  #gname: ByteString = "";

  constructor(handler: TarHandler, limits: TarReaderLimits = {}) {
    this.#handler = handler;
    this.#paxBytes = limits.paxBytes ?? 32 * 1024 * 1024;
    this.#nameBytes = limits.nameBytes ?? 1024 * 1024;
    this.#sparseRegions = limits.sparseRegions ?? 1_000_000;
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** How the archive ended; meaningful after {@link end}. */
  get ending(): TarEnding {
    return this.#zeroBlocks >= 2 ? "complete" : this.#zeroBlocks === 1 ? "short" : "open";
  }

  /** Reads the next bytes of the stream. Throws LamellaErrors (`invalid_argument`, `data_loss`) and what the handler throws. */
  push(chunk: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#chunk = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#at = 0;
    this.#delivered = 0;
    try {
      while (this.#at < this.#chunk.length) this.#step();
      this.#deliverRaw();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
    this.#base += this.#chunk.length;
    this.#at = 0;
    this.#delivered = 0;
    this.#chunk = noBytes;
  }

  /** Ends the stream. Throws `data_loss` (`TAR_TRUNCATED`) when it stopped inside an entry. */
  end(): void {
    if (this.#failure !== undefined) throw this.#failure;
    const problem = this.#cutShort();
    if (problem === undefined) return;
    this.#failure = tarError("data_loss", "TAR_TRUNCATED", problem, { name: this.#name, offset: this.offset });
    throw this.#failure;
  }

  /** What the end of the stream cuts short, or nothing. */
  #cutShort(): string | undefined {
    switch (this.#state) {
      case readTrailer:
        return undefined;
      case readData:
      case readSparseLines:
        return `the archive ends ${this.#left} bytes before the end of the file's data`;
      case readPadding:
        return "the archive ends in the padding after data";
      case readExtension:
      case readOldSparse:
        return "the archive ends inside an extension header";
      case readHeader: {
        if (this.#hasExtension) return "the archive ends after an extension header without its entry";
        if (this.#filled === 0) return undefined;
        const isZero = this.#block.subarray(0, this.#filled).every((byte) => byte === 0);
        return this.#zeroBlocks > 0 && isZero ? undefined : "the archive ends inside a header";
      }
      default:
        return this.#state satisfies never;
    }
  }

  #step(): void {
    switch (this.#state) {
      case readHeader:
        if (this.#fillBlock()) this.#readHeader();
        return;
      case readData:
        this.#readData();
        return;
      case readPadding:
        this.#readPadding();
        return;
      case readExtension:
        this.#readExtension();
        return;
      case readOldSparse:
        if (this.#fillBlock()) this.#readOldSparse();
        return;
      case readSparseLines:
        this.#readSparseLines();
        return;
      case readTrailer:
        this.#at = this.#chunk.length;
        return;
      default:
        this.#state satisfies never;
    }
  }

  /** Moves bytes into the block; true when it is full. */
  #fillBlock(): boolean {
    const taken = this.#chunk.copy(this.#block, this.#filled, this.#at);
    this.#at += taken;
    this.#filled += taken;
    if (this.#filled < blockBytes) return false;
    this.#filled = 0;
    return true;
  }

  /** Moves over at most `#left` bytes of the piece; returns how many. */
  #skip(): number {
    const taken = Math.min(this.#left, this.#chunk.length - this.#at);
    this.#at += taken;
    this.#left -= taken;
    return taken;
  }

  #deliverRaw(): void {
    if (this.#at > this.#delivered) this.#handler.raw?.(this.#chunk.subarray(this.#delivered, this.#at));
    this.#delivered = this.#at;
  }

  #readHeader(): void {
    const block = this.#block;
    const start = this.offset - blockBytes;
    const { isZero, isValid } = sumOfBlock(block, this.#words);
    if (isZero) {
      if (this.#hasExtension) this.#failMalformed("the archive ends after an extension header without its entry");
      if (++this.#zeroBlocks === 2) this.#state = readTrailer;
      return;
    }
    if (!this.#hasExtension) {
      this.#headerOffset = start;
      this.#name = "";
    }
    if (this.#zeroBlocks > 0) this.#failMalformed("a header after a zero block");
    if (!isValid) this.#fail("data_loss", "TAR_CHECKSUM", "the header's checksum is wrong");
    const flag = block[156] as number;
    switch (flag) {
      case flagPax:
      case flagPaxGlobal:
        this.#beginExtension(flag, this.#paxBytes);
        return;
      case flagLongName:
      case flagLongLink:
        this.#beginExtension(flag, this.#nameBytes);
        return;
      default:
        this.#readEntryHeader(flag);
    }
  }

  // ---- extension headers

  #beginExtension(flag: number, maxBytes: number): void {
    this.#hasExtension = true;
    const size = this.#sizeField();
    if (size > maxBytes)
      this.#fail("invalid_argument", "TAR_LIMIT", `an extension header of ${size} bytes; the limit is ${maxBytes}`);
    this.#extensionFlag = flag;
    this.#extensionFilled = 0;
    this.#left = size;
    this.#state = readExtension;
    if (size === 0) this.#finishExtension();
  }

  #readExtension(): void {
    const start = this.#at;
    const taken = this.#skip();
    const needed = this.#extensionFilled + taken;
    if (needed > this.#extension.length) {
      // Grows with the bytes that are really there, not with the size that the header claims.
      const grown = Buffer.allocUnsafeSlow(Math.max(4096, needed, Math.min(needed * 2, needed + this.#left)));
      this.#extension.copy(grown, 0, 0, this.#extensionFilled);
      this.#extension = grown;
    }
    this.#chunk.copy(this.#extension, this.#extensionFilled, start, start + taken);
    this.#extensionFilled = needed;
    if (this.#left === 0) this.#finishExtension();
  }

  #finishExtension(): void {
    const data = this.#extension.subarray(0, this.#extensionFilled);
    if (this.#extension.length > 1024 * 1024) this.#extension = noBytes;
    switch (this.#extensionFlag) {
      case flagLongName:
        this.#longName = textField(data, 0, data.length);
        this.#name = this.#longName;
        break;
      case flagLongLink:
        this.#longLink = textField(data, 0, data.length);
        break;
      default: {
        const isGlobal = this.#extensionFlag === flagPaxGlobal;
        const fields = parsePax(data, { base: this.#global, isGlobal, maxRegions: this.#sparseRegions });
        if (typeof fields === "string") this.#failMalformed(fields);
        else if (isGlobal) this.#global = fields;
        else this.#pax = fields;
        if (this.#longName === undefined) this.#name = this.#pax?.path ?? "";
        // A global header stands for itself: nothing need follow it.
        if (isGlobal)
          this.#hasExtension = this.#pax !== undefined || this.#longName !== undefined || this.#longLink !== undefined;
      }
    }
    this.#beginPadding(data.length);
  }

  #beginPadding(size: number): void {
    this.#left = paddingOf(size);
    this.#state = this.#left === 0 ? readHeader : readPadding;
  }

  #readPadding(): void {
    this.#skip();
    if (this.#left > 0) return;
    const map = this.#paddedMap;
    this.#paddedMap = undefined;
    if (map === undefined) this.#state = readHeader;
    else this.#finishSparse(map);
  }

  // ---- entries

  #readEntryHeader(flag: number): void {
    const block = this.#block;
    const dialect = dialectOf(block);
    const pax = this.#pax ?? this.#global;
    const name =
      this.#longName ?? (pax === undefined ? undefined : (pax.sparseName ?? pax.path)) ?? this.#headerName(dialect);
    this.#name = name;
    // Before ustar, a directory was a file whose name ends with a slash.
    const type = flag === 0 && name.endsWith("/") ? "directory" : (typesByFlag[flag] ?? "unknown");
    const hasData = type === "file" || type === "unknown";
    const isDevice = type === "char" || type === "block";
    const size = hasData ? (pax?.size ?? this.#sizeField()) : 0;
    const hasNames = dialect !== "v7";
    if (hasNames) this.#readOwnerNames();
    this.#entry = {
      name,
      type,
      typeflag: flag,
      mode: this.#number(100, 8, "mode") & 0o7777,
      uid: pax?.uid ?? this.#number(108, 8, "uid"),
      gid: pax?.gid ?? this.#number(116, 8, "gid"),
      size,
      realSize: size,
      mtimeSec: pax?.mtimeSec ?? this.#number(136, 12, "mtime"),
      mtimeNsec: pax?.mtimeNsec ?? 0,
      linkName: this.#longLink ?? pax?.linkpath ?? textField(block, 157, 100),
      devMajor: isDevice && hasNames ? this.#number(329, 8, "major device number") : 0,
      devMinor: isDevice && hasNames ? this.#number(337, 8, "minor device number") : 0,
      uname: pax?.uname ?? (hasNames ? this.#uname : ""),
      gname: pax?.gname ?? (hasNames ? this.#gname : ""),
      xattrs: pax?.xattrs ?? noXattrs,
      sparse: undefined,
      headerOffset: this.#headerOffset,
      dataOffset: this.offset,
    };
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#pax = undefined;
    this.#hasExtension = false;
    this.#left = size;
    if (flag === flagGnuSparse) this.#beginOldSparse(dialect);
    else if (pax !== undefined && (pax.sparseMajor !== undefined || pax.sparseMap !== undefined))
      this.#beginPaxSparse(pax);
    else this.#beginData();
  }

  /** Caches the owner's names: whole archives carry the same two. */
  #readOwnerNames(): void {
    if (!this.#isField(265, this.#uname)) this.#uname = textField(this.#block, 265, 32);
    if (!this.#isField(297, this.#gname)) this.#gname = textField(this.#block, 297, 32);
  }

  #isField(start: number, text: ByteString): boolean {
    for (let i = 0; i < text.length; i++) if (this.#block[start + i] !== text.charCodeAt(i)) return false;
    return text.length === 32 || this.#block[start + text.length] === 0;
  }

  #headerName(dialect: HeaderDialect): ByteString {
    const name = textField(this.#block, 0, 100);
    if (dialect === "v7" || this.#block[345] === 0) return name;
    let prefix = "";
    if (dialect === "ustar") prefix = textField(this.#block, 345, 155);
    else if (dialect === "star") prefix = textField(this.#block, 345, 131);
    else if (numberField(this.#block, 345, 12) === undefined && this.#block[156] !== flagGnuSparse) {
      // Go before 1.8 wrote ustar prefixes under GNU's magic; layers of that time are still about.
      prefix = textField(this.#block, 345, 155);
    }
    return prefix === "" ? name : `${prefix}/${name}`;
  }

  #number(start: number, length: number, what: string): number {
    const value = numberField(this.#block, start, length);
    if (value === undefined) this.#failMalformed(`the header's ${what} is no number`);
    if (Number.isNaN(value)) this.#failMalformed(`the header's ${what} is beyond 2^53`);
    return value;
  }

  #sizeField(): number {
    const size = this.#number(124, 12, "size");
    if (size < 0) this.#failMalformed(`the header's size is ${size}`);
    return size;
  }

  // ---- sparse maps

  #beginOldSparse(dialect: HeaderDialect): void {
    if (dialect !== "gnu") this.#failMalformed("a GNU sparse file without GNU's magic");
    const map = new SparseMap(this.#sparseRegions);
    this.#oldSparse = map;
    const realSize = this.#number(483, 12, "real size");
    this.#setEntry({ realSize });
    this.#failOn(addOldGnuRegions(map, this.#block, 386, 4));
    if (this.#block[482] === 0) this.#finishSparse(map);
    else this.#state = readOldSparse;
  }

  #readOldSparse(): void {
    const map = this.#oldSparse as SparseMap;
    this.#failOn(addOldGnuRegions(map, this.#block, 0, 21));
    if (this.#block[504] === 0) this.#finishSparse(map);
  }

  #beginPaxSparse(pax: PaxFields): void {
    const entry = this.#entry as TarEntry;
    if (entry.type !== "file") this.#failMalformed(`a sparse map on a ${entry.type}`);
    if (pax.sparseRealSize === undefined) this.#failMalformed("a sparse file without its real size");
    this.#setEntry({ realSize: pax.sparseRealSize });
    if (pax.sparseMajor === 1 && pax.sparseMinor === 0) {
      this.#sparseLines = new SparseLines(new SparseMap(this.#sparseRegions));
      this.#state = readSparseLines;
      if (this.#left === 0) this.#failMalformed("a sparse file without its map");
      return;
    }
    const isVersion0 = pax.sparseMajor === undefined || (pax.sparseMajor === 0 && (pax.sparseMinor ?? 0) <= 1);
    if (!isVersion0 || pax.sparseMap === undefined)
      this.#failMalformed(`a sparse map of the unknown version ${pax.sparseMajor}.${pax.sparseMinor}`);
    this.#finishSparse(pax.sparseMap);
  }

  #readSparseLines(): void {
    const lines = this.#sparseLines as SparseLines;
    const end = Math.min(this.#chunk.length, this.#at + this.#left);
    const stopped = lines.push(this.#chunk, this.#at, end);
    this.#left -= stopped - this.#at;
    this.#at = stopped;
    this.#failOn(lines.problem);
    if (!lines.isComplete) {
      if (this.#left === 0) this.#failMalformed("a sparse map longer than the payload it stands in");
      return;
    }
    const entry = this.#entry as TarEntry;
    const read = entry.size - this.#left;
    const padding = paddingOf(read);
    if (padding > this.#left) this.#failMalformed("a sparse map longer than the payload it stands in");
    this.#sparseLines = undefined;
    this.#setEntry({ size: this.#left - padding });
    if (padding === 0) {
      this.#finishSparse(lines.map);
      return;
    }
    this.#paddedMap = lines.map;
    this.#left = padding;
    this.#state = readPadding;
  }

  #finishSparse(map: SparseMap): void {
    const entry = this.#entry as TarEntry;
    this.#failOn(map.check(entry.size, entry.realSize));
    const sparse: readonly SparseRegion[] = map.regions;
    this.#setEntry({ sparse, dataOffset: this.offset });
    this.#oldSparse = undefined;
    this.#left = entry.size;
    this.#beginData();
  }

  #setEntry(change: Partial<TarEntry>): void {
    this.#entry = { ...(this.#entry as TarEntry), ...change };
  }

  // ---- payload

  #beginData(): void {
    const entry = this.#entry as TarEntry;
    this.#deliverRaw();
    this.#handler.entry(entry);
    if (entry.size > 0) this.#state = readData;
    else this.#finishData(entry);
  }

  #readData(): void {
    this.#deliverRaw();
    const start = this.#at;
    this.#skip();
    this.#delivered = this.#at;
    const isWhole = start === 0 && this.#at === this.#chunk.length;
    this.#handler.data?.(isWhole ? this.#chunk : this.#chunk.subarray(start, this.#at));
    if (this.#left === 0) this.#finishData(this.#entry as TarEntry);
  }

  #finishData(entry: TarEntry): void {
    this.#entry = undefined;
    this.#beginPadding(entry.size);
    this.#handler.endEntry?.(entry);
  }

  // ---- failures

  #failOn(problem: string | undefined): void {
    if (problem !== undefined) this.#failMalformed(problem);
  }

  #failMalformed(what: string): never {
    this.#fail("invalid_argument", "TAR_MALFORMED", what);
  }

  #fail(kind: "invalid_argument" | "data_loss", code: string, what: string): never {
    throw tarError(kind, code, what, { name: this.#name, offset: this.offset });
  }
}
