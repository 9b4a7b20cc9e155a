/**
 * The tar writer: turns headers into blocks, without input or output. An archive is, for each entry, `header(entry)`, the
 * payload, `padding(entry.size)`; then `end()`.
 *
 * The form is canonical: a header's bytes depend on its fields alone, and everything that could vary (owner names, access
 * and change times, record order, the numbers in the names of PAX headers) is fixed. A plain ustar header is written where
 * the fields fit one, else a PAX header goes before it. docs/formats/tar.md has the rules; they give the bytes that Go's
 * archive/tar gives in its PAX format, which is what Docker writes.
 */
import { posix } from "node:path";
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, compareBytes } from "../lib/bytes.ts";
import { shownName, type TarEntryType, type TarHeader } from "./entry.ts";
import { blockBytes, paddingOf } from "./fields.ts";
import { formatPaxRecord, formatPaxTime, paxXattrKey } from "./pax.ts";

const flagsByType: Readonly<Record<Exclude<TarEntryType, "unknown">, number>> = {
  file: 0x30,
  hardlink: 0x31,
  symlink: 0x32,
  char: 0x33,
  block: 0x34,
  directory: 0x35,
  fifo: 0x36,
};

const paxFlag = 0x78;
const zeros = Buffer.alloc(2 * blockBytes);
/** Largest values of the octal fields: 7 digits, 11 digits. */
const maxOctal7 = 0o7777777;
const maxOctal11 = 0o77777777777;

/** Writes headers in canonical form. Holds no state between entries. */
export class TarWriter {
  /**
   * The header blocks of one entry: a ustar header, preceded by a PAX header where needed. A directory's name gets its
   * final `/`. Throws `invalid_argument` for what tar cannot say: an unknown type, a NUL in a name, a final slash on what is no
   * directory (some tars would make it one), a sparse map.
   */
  header(entry: TarHeader): Buffer {
    const flag = entry.type === "unknown" ? undefined : flagsByType[entry.type];
    if (flag === undefined) throw unwritable(entry, `the type ${entry.type} has no place in a tar`);
    if (entry.sparse !== undefined) throw unwritable(entry, "a sparse file must be expanded first");
    const name = entry.type === "directory" && !entry.name.endsWith("/") ? `${entry.name}/` : entry.name;
    if (name === "" || (name.endsWith("/") && entry.type !== "directory"))
      throw unwritable(entry, `that name is not a ${entry.type}'s`);
    const linkName = entry.linkName ?? "";
    const size = entry.size ?? 0;
    const mtimeNsec = entry.mtimeNsec ?? 0;
    checkNumbers(entry, size, mtimeNsec);

    const records: [ByteString, ByteString][] = [];
    const fitsName = isShortAscii(entry, name, 100);
    const split = fitsName ? undefined : splitName(name);
    if (!isShortAscii(entry, linkName, 100)) records.push(["linkpath", linkName]);
    if (size > maxOctal11) records.push(["size", String(size)]);
    if (!isOctal(entry.uid, maxOctal7)) records.push(["uid", String(entry.uid)]);
    if (!isOctal(entry.gid, maxOctal7)) records.push(["gid", String(entry.gid)]);
    if (mtimeNsec !== 0 || !isOctal(entry.mtimeSec, maxOctal11))
      records.push(["mtime", formatPaxTime(entry.mtimeSec, mtimeNsec)]);
    if (entry.xattrs !== undefined) addXattrs(entry, records);

    if (!fitsName && (split === undefined || records.length > 0)) records.push(["path", name]);
    if (records.length === 0) {
      const block = Buffer.allocUnsafe(blockBytes);
      writeUstar(block, entry, { flag, name: split?.name ?? name, prefix: split?.prefix ?? "", linkName });
      return block;
    }
    records.sort((a, b) => compareBytes(a[0], b[0]));
    let data = "";
    for (const [key, value] of records) data += formatPaxRecord(key, value);
    const padded = data.length + paddingOf(data.length);
    const blocks = Buffer.allocUnsafe(blockBytes + padded + blockBytes);
    writePaxHeader(blocks, paxHeaderName(name), data.length);
    blocks.write(data, blockBytes, "latin1");
    blocks.fill(0, blockBytes + data.length, blockBytes + padded);
    writeUstar(blocks.subarray(blockBytes + padded), entry, { flag, name, prefix: "", linkName });
    return blocks;
  }

  /** The zeros that follow a payload of `size` bytes, up to the next block: 0 to 511. A shared view: do not change it. */
  padding(size: number): Uint8Array {
    return zeros.subarray(0, paddingOf(size));
  }

  /** The two zero blocks that end an archive. A shared view: do not change it. */
  end(): Uint8Array {
    return zeros.subarray(0, 2 * blockBytes);
  }
}

function unwritable(entry: TarHeader, what: string): LamellaError {
  return new LamellaError("invalid_argument", "TAR_UNWRITABLE", `tar entry ${shownName(entry.name)}: ${what}`);
}

function isOctal(value: number, max: number): boolean {
  return value >= 0 && value <= max;
}

function checkNumbers(entry: TarHeader, size: number, mtimeNsec: number): void {
  if (!Number.isSafeInteger(size) || size < 0) throw unwritable(entry, `${size} is no size`);
  if (size > 0 && entry.type !== "file") throw unwritable(entry, `a ${entry.type} has no payload`);
  if (!Number.isSafeInteger(entry.uid) || !Number.isSafeInteger(entry.gid))
    throw unwritable(entry, `${entry.uid}:${entry.gid} is no owner`);
  if (!isOctal(entry.mode, 0o7777)) throw unwritable(entry, `${entry.mode} is no mode`);
  if (!Number.isSafeInteger(entry.mtimeSec) || !Number.isSafeInteger(mtimeNsec) || !isOctal(mtimeNsec, 999_999_999))
    throw unwritable(entry, `${entry.mtimeSec} s ${mtimeNsec} ns is no time`);
  if (!isOctal(entry.devMajor ?? 0, maxOctal7) || !isOctal(entry.devMinor ?? 0, maxOctal7))
    throw unwritable(entry, `the device number ${entry.devMajor}:${entry.devMinor} does not fit`);
}

/** True when `text` is ASCII of at most `max` bytes. Throws when it is no name at all. */
function isShortAscii(entry: TarHeader, text: ByteString, max: number): boolean {
  let isAscii = true;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0) throw unwritable(entry, "a NUL byte in a name");
    if (code > 0xff) throw unwritable(entry, "a name that is text, not a byte string");
    if (code > 0x7f) isAscii = false;
  }
  return isAscii && text.length <= max;
}

/** Splits a long ASCII name at its last `/` that leaves at most 155 bytes before it, if the rest fits into 100. */
function splitName(name: ByteString): { readonly prefix: ByteString; readonly name: ByteString } | undefined {
  if (name.length > 256) return undefined;
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) > 0x7f) return undefined;
  const last = name.endsWith("/") ? name.length - 2 : name.length - 1;
  const slash = name.lastIndexOf("/", Math.min(last, 155));
  const rest = name.length - slash - 1;
  if (slash <= 0 || rest === 0 || rest > 100) return undefined;
  return { prefix: name.slice(0, slash), name: name.slice(slash + 1) };
}

function addXattrs(entry: TarHeader, records: [ByteString, ByteString][]): void {
  for (const [name, value] of entry.xattrs ?? []) {
    if (name === "") throw unwritable(entry, "an xattr without a name");
    isShortAscii(entry, name, 0);
    records.push([paxXattrKey(name), Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1")]);
  }
}

/** `dir/PaxHeaders.0/file`, normalised, as tars without PAX will name it: ASCII, at most 100 bytes. */
function paxHeaderName(name: ByteString): ByteString {
  const slash = name.lastIndexOf("/") + 1;
  return posix
    .join(name.slice(0, slash), "PaxHeaders.0", name.slice(slash))
    .replace(/[^\x00-\x7f]/g, "")
    .slice(0, 100)
    .replace(/\/+$/, "");
}

interface UstarNames {
  readonly flag: number;
  readonly name: ByteString;
  readonly prefix: ByteString;
  readonly linkName: ByteString;
}

/** Writes a ustar header. Fields that do not fit are cut or zero: the PAX header before them has the real ones. */
function writeUstar(block: Buffer, entry: TarHeader, names: UstarNames): void {
  block.fill(0, 0, blockBytes);
  writeName(block, 0, names.name);
  writeOctal(block, 100, 7, entry.mode);
  writeOctal(block, 108, 7, isOctal(entry.uid, maxOctal7) ? entry.uid : 0);
  writeOctal(block, 116, 7, isOctal(entry.gid, maxOctal7) ? entry.gid : 0);
  const size = entry.size ?? 0;
  writeOctal(block, 124, 11, size > maxOctal11 ? 0 : size);
  writeOctal(block, 136, 11, isOctal(entry.mtimeSec, maxOctal11) ? entry.mtimeSec : 0);
  block[156] = names.flag;
  writeName(block, 157, names.linkName);
  writeOctal(block, 329, 7, entry.devMajor ?? 0);
  writeOctal(block, 337, 7, entry.devMinor ?? 0);
  if (names.prefix !== "") block.write(names.prefix, 345, 155, "latin1");
  finishHeader(block);
}

function writePaxHeader(block: Buffer, name: ByteString, size: number): void {
  block.fill(0, 0, blockBytes);
  block.write(name, 0, 100, "latin1");
  for (const field of [100, 108, 116]) writeOctal(block, field, 7, 0);
  writeOctal(block, 124, 11, size);
  writeOctal(block, 136, 11, 0);
  block[156] = paxFlag;
  finishHeader(block);
}

/** Writes the ASCII part of a name, cut to 100 bytes; once cut it must not end with the slash that means a directory. */
function writeName(block: Buffer, start: number, name: ByteString): void {
  let at = start;
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code > 0x7f) continue;
    if (at === start + 100) {
      while (at > start && block[at - 1] === 0x2f) block[--at] = 0;
      return;
    }
    block[at++] = code;
  }
}

function writeOctal(block: Buffer, start: number, digits: number, value: number): void {
  let rest = value;
  for (let at = start + digits - 1; at >= start; at--) {
    if (rest === 0) {
      block[at] = 0x30;
      continue;
    }
    const digit = rest % 8;
    block[at] = 0x30 + digit;
    rest = (rest - digit) / 8;
  }
}

/** Magic, version, checksum. */
function finishHeader(block: Buffer): void {
  block.write("ustar\0" + "00", 257, 8, "latin1");
  block.fill(0x20, 148, 156);
  let total = 0;
  for (let i = 0; i < blockBytes; i++) total += block[i] as number;
  writeOctal(block, 148, 6, total);
  block[154] = 0;
  block[155] = 0x20;
}
