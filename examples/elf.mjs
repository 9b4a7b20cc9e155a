/**
 * Reads from an ELF file what decides which other files it needs to run: the program interpreter (PT_INTERP), the names
 * of the libraries (DT_NEEDED) and the directories to look for them in (DT_RPATH, DT_RUNPATH). Both classes, both byte
 * orders. Source: the System V ABI (gABI), chapters 4 and 5.
 *
 * @typedef {object} ElfNeeds
 * @property {number} machine     e_machine: 62 is x86-64, 183 AArch64
 * @property {32 | 64} bits
 * @property {string | undefined} interpreter
 * @property {string[]} needed    library names in the order of the file
 * @property {string[]} rpath     DT_RPATH, split at colons
 * @property {string[]} runpath   DT_RUNPATH, split at colons
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_RPATH = 15;
const DT_RUNPATH = 29;

/**
 * What the file at `path` needs; undefined when it is no ELF file. Throws on a damaged one.
 * @param {string} path
 * @returns {ElfNeeds | undefined}
 */
export function readElf(path) {
  const fd = openSync(path, "r");
  try {
    const fileSize = fstatSync(fd).size;
    const read = (/** @type {number} */ offset, /** @type {number} */ length) => {
      const bytes = Buffer.alloc(Math.max(0, Math.min(length, fileSize - offset)));
      if (readSync(fd, bytes, 0, bytes.length, offset) !== length) throw new Error(`${path}: damaged ELF file`);
      return bytes;
    };
    if (fileSize < 52 || read(0, 4).toString("latin1") !== "\x7fELF") return undefined;
    return parse(read, read(0, Math.min(64, fileSize)));
  } finally {
    closeSync(fd);
  }
}

/**
 * @param {(offset: number, length: number) => Buffer} read
 * @param {Buffer} head
 * @returns {ElfNeeds}
 */
function parse(read, head) {
  const wide = head[4] === 2;
  const little = head[5] === 1;
  const u16 = (/** @type {Buffer} */ b, /** @type {number} */ at) => (little ? b.readUInt16LE(at) : b.readUInt16BE(at));
  const u32 = (/** @type {Buffer} */ b, /** @type {number} */ at) => (little ? b.readUInt32LE(at) : b.readUInt32BE(at));
  const word = (/** @type {Buffer} */ b, /** @type {number} */ at) =>
    wide ? Number(little ? b.readBigUInt64LE(at) : b.readBigUInt64BE(at)) : u32(b, at);

  const headersAt = word(head, wide ? 32 : 28);
  const headerSize = u16(head, wide ? 54 : 42);
  const headerCount = u16(head, wide ? 56 : 44);
  const table = read(headersAt, headerSize * headerCount);
  const segments = Array.from({ length: headerCount }, (_, i) => {
    const at = i * headerSize;
    return {
      type: u32(table, at),
      offset: word(table, at + (wide ? 8 : 4)),
      address: word(table, at + (wide ? 16 : 8)),
      fileSize: word(table, at + (wide ? 32 : 16)),
    };
  });

  const interp = segments.find((s) => s.type === PT_INTERP);
  const dynamic = segments.find((s) => s.type === PT_DYNAMIC);
  const tags = dynamic === undefined ? [] : dynamicTags(read(dynamic.offset, dynamic.fileSize), wide ? 8 : 4, word);
  const stringsAt = tags.find(([tag]) => tag === DT_STRTAB)?.[1];
  const texts = (/** @type {number} */ wanted) =>
    tags.filter(([tag]) => tag === wanted).map(([, offset]) => cString(read, fileOffset(segments, stringsAt) + offset));
  const paths = (/** @type {number} */ wanted) => texts(wanted).flatMap((text) => text.split(":").filter(Boolean));
  return {
    machine: u16(head, 18),
    bits: wide ? 64 : 32,
    interpreter: interp && cString(read, interp.offset),
    needed: texts(DT_NEEDED),
    rpath: paths(DT_RPATH),
    runpath: paths(DT_RUNPATH),
  };
}

/**
 * The (tag, value) pairs up to DT_NULL.
 * @param {Buffer} bytes
 * @param {number} size
 * @param {(bytes: Buffer, at: number) => number} word
 */
function dynamicTags(bytes, size, word) {
  /** @type {[number, number][]} */
  const tags = [];
  for (let at = 0; at + 2 * size <= bytes.length; at += 2 * size) {
    const tag = word(bytes, at);
    if (tag === 0) break;
    tags.push([tag, word(bytes, at + size)]);
  }
  return tags;
}

/**
 * Where in the file the byte of a virtual address lies.
 * @param {{ type: number, offset: number, address: number, fileSize: number }[]} segments
 * @param {number | undefined} address
 */
function fileOffset(segments, address) {
  const load = segments.find(
    (s) => s.type === PT_LOAD && address !== undefined && address >= s.address && address < s.address + s.fileSize,
  );
  if (load === undefined || address === undefined) throw new Error("ELF file without a string table");
  return address - load.address + load.offset;
}

/**
 * @param {(offset: number, length: number) => Buffer} read
 * @param {number} offset
 */
function cString(read, offset) {
  let text = "";
  for (let at = offset; ; at++) {
    const byte = read(at, 1).toString("latin1");
    if (byte === "\0") return text;
    text += byte;
  }
}
