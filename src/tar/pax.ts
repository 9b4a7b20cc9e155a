/**
 * PAX extended headers: the data of a typeflag `x` (next entry) or `g` (all following) header is a sequence of records
 *
 * ```
 * "27 mtime=1350244992.02396\n"      length of the whole record, space, key, "=", value, newline
 * ```
 *
 * Values may hold any bytes; the length alone delimits them. Source: POSIX.1-2017 pax, "pax Extended Header". Keys beyond
 * POSIX: `SCHILY.xattr.NAME` (binary value; GNU tar escapes `%` and `=` in the name), `LIBARCHIVE.xattr.NAME` (URL-coded
 * name, base64 value), `GNU.sparse.*`. All other keys are skipped.
 */
import type { ByteString } from "../lib/bytes.ts";
import { SparseMap } from "./sparse.ts";

/** What an extended header changes in the entry. Absent: the fixed header counts. */
export interface PaxFields {
  path?: ByteString | undefined;
  linkpath?: ByteString | undefined;
  size?: number | undefined;
  uid?: number | undefined;
  gid?: number | undefined;
  mtimeSec?: number | undefined;
  mtimeNsec?: number | undefined;
  uname?: ByteString | undefined;
  gname?: ByteString | undefined;
  xattrs?: Map<ByteString, Buffer> | undefined;
  sparseName?: ByteString | undefined;
  sparseRealSize?: number | undefined;
  sparseMap?: SparseMap | undefined;
  /** GNU.sparse.major and minor: 1 and 0 say that the map stands at the head of the payload. */
  sparseMajor?: number | undefined;
  sparseMinor?: number | undefined;
}

const xattrKey = "SCHILY.xattr.";
const libarchiveXattrKey = "LIBARCHIVE.xattr.";

/** What {@link parsePax} takes besides the data. */
export interface PaxParseOptions {
  /** What the fields start from: those of the global header in force. */
  readonly base?: PaxFields | undefined;
  /** True for a `g` header: records that only make sense for one entry are refused. */
  readonly isGlobal: boolean;
  readonly maxRegions: number;
}

/** Parses an extended header's data. A string returned says what is malformed. */
export function parsePax(data: Buffer, options: PaxParseOptions): PaxFields | string {
  const fields: PaxFields = { ...options.base };
  const libarchiveXattrs: [ByteString, Buffer][] = [];
  let at = 0;
  while (at < data.length) {
    let length = 0;
    let space = at;
    for (; ; space++) {
      const byte = data[space];
      if (byte === 0x20) break;
      if (byte === undefined || byte < 0x30 || byte > 0x39 || space - at > 9)
        return "PAX record whose length is no number";
      length = length * 10 + (byte - 0x30);
    }
    const end = at + length;
    // A length that spans its own digits only, or reaches past the data, would desynchronise everything after it.
    if (space === at || end < space + 4 || end > data.length) return `PAX record with the wrong length ${length}`;
    if (data[end - 1] !== 0x0a) return "PAX record that does not end with a newline";
    const equals = data.indexOf(0x3d, space + 1);
    if (equals === -1 || equals >= end - 1 || equals === space + 1) return "PAX record without a key";
    const problem = applyRecord({
      fields,
      options,
      libarchiveXattrs,
      key: data.toString("latin1", space + 1, equals),
      value: data.subarray(equals + 1, end - 1),
    });
    if (problem !== undefined) return problem;
    at = end;
  }
  for (const [name, value] of libarchiveXattrs) {
    fields.xattrs ??= new Map();
    if (!fields.xattrs.has(name)) fields.xattrs.set(name, value);
  }
  return fields;
}

interface PaxRecord {
  readonly fields: PaxFields;
  readonly options: PaxParseOptions;
  readonly libarchiveXattrs: [ByteString, Buffer][];
  readonly key: ByteString;
  readonly value: Buffer;
}

/** Applies one record; an empty value takes back what an earlier header said. Returns what is malformed, or nothing. */
function applyRecord(record: PaxRecord): string | undefined {
  const { fields, key, value } = record;
  switch (key) {
    case "mtime":
      return applyMtime(fields, value);
    case "uname":
    case "gname":
      fields[key] = textValue(value);
      return undefined;
    case "uid":
    case "gid":
      fields[key] = value.length === 0 ? undefined : integerValue(value);
      return Number.isNaN(fields[key]) ? `PAX ${key} that is no number` : undefined;
    case "path":
    case "linkpath":
    case "size":
      return record.options.isGlobal ? globalProblem(key) : applyPlace(fields, key, value);
  }
  if (key.startsWith(xattrKey) || key.startsWith(libarchiveXattrKey))
    return record.options.isGlobal ? globalProblem(key) : applyXattr(record);
  if (key.startsWith("GNU.sparse.")) return record.options.isGlobal ? globalProblem(key) : applySparse(record);
  return undefined;
}

/** One name, size or attribute for every entry that follows cannot be meant, and tars disagree on what it would do. */
function globalProblem(key: string): string {
  return `global PAX header with the key ${key.slice(0, 64)}, which belongs to one entry`;
}

function applyPlace(fields: PaxFields, key: "path" | "linkpath" | "size", value: Buffer): string | undefined {
  if (key === "size") {
    fields.size = value.length === 0 ? undefined : integerValue(value);
    return fields.size === undefined || fields.size >= 0 ? undefined : "PAX size that is no size";
  }
  // No file name holds a NUL; passed on to a system call it would cut the name short.
  if (value.includes(0)) return `PAX ${key} with a NUL byte`;
  fields[key] = textValue(value);
  return undefined;
}

function applyXattr({ fields, libarchiveXattrs, key, value }: PaxRecord): string | undefined {
  if (key.includes("\0")) return "xattr whose name has a NUL byte";
  if (key.startsWith(xattrKey)) {
    if (key.length === xattrKey.length) return "xattr without a name";
    fields.xattrs ??= new Map();
    // A copy: the data is a buffer that the next extended header overwrites.
    fields.xattrs.set(unescapeXattrName(key.slice(xattrKey.length)), Buffer.from(value));
    return undefined;
  }
  const name = key.slice(libarchiveXattrKey.length).replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => {
    return String.fromCharCode(Number.parseInt(hex, 16));
  });
  if (name === "" || name.includes("\0")) return "xattr without a name";
  libarchiveXattrs.push([name, Buffer.from(value.toString("latin1"), "base64")]);
  return undefined;
}

function applySparse({ fields, options, key, value }: PaxRecord): string | undefined {
  switch (key) {
    case "GNU.sparse.name":
      if (value.includes(0)) return "PAX GNU.sparse.name with a NUL byte";
      fields.sparseName = textValue(value);
      return undefined;
    case "GNU.sparse.size":
    case "GNU.sparse.realsize":
      fields.sparseRealSize = integerValue(value);
      return fields.sparseRealSize >= 0 ? undefined : `PAX ${key} that is no size`;
    case "GNU.sparse.major":
      fields.sparseMajor = integerValue(value);
      return undefined;
    case "GNU.sparse.minor":
      fields.sparseMinor = integerValue(value);
      return undefined;
    case "GNU.sparse.offset":
    case "GNU.sparse.numbytes": {
      fields.sparseMap ??= new SparseMap(options.maxRegions);
      if (fields.sparseMap.expectsOffset !== (key === "GNU.sparse.offset")) return `${key} out of turn`;
      return fields.sparseMap.add(integerValue(value));
    }
    case "GNU.sparse.map":
      fields.sparseMap = new SparseMap(options.maxRegions);
      return addCommaList(fields.sparseMap, value);
    default:
      return undefined;
  }
}

function addCommaList(map: SparseMap, list: Buffer): string | undefined {
  if (list.length === 0) return undefined;
  let number = 0;
  let digits = 0;
  for (let at = 0; at <= list.length; at++) {
    const byte = at === list.length ? 0x2c : (list[at] as number);
    if (byte === 0x2c && digits > 0) {
      const problem = map.add(number);
      if (problem !== undefined) return problem;
      number = 0;
      digits = 0;
    } else if (byte >= 0x30 && byte <= 0x39 && digits < 16) {
      number = number * 10 + (byte - 0x30);
      digits++;
    } else return "GNU.sparse.map that is no list of numbers";
  }
  return undefined;
}

/** Seconds with an optional fraction, of which nanoseconds are kept; seconds are rounded down and the rest is ≥ 0. */
function applyMtime(fields: PaxFields, value: Buffer): string | undefined {
  fields.mtimeSec = undefined;
  fields.mtimeNsec = undefined;
  if (value.length === 0) return undefined;
  const match = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(value.toString("latin1"));
  if (match === null) return "PAX mtime that is no time";
  const whole = Number(match[2]);
  const fraction = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (!Number.isSafeInteger(whole)) return "PAX mtime beyond 2^53";
  const isBefore = match[1] === "-" && (whole > 0 || fraction > 0);
  fields.mtimeSec = !isBefore ? whole : fraction === 0 ? -whole : -whole - 1;
  fields.mtimeNsec = isBefore && fraction > 0 ? 1_000_000_000 - fraction : fraction;
  return undefined;
}

function textValue(value: Buffer): ByteString | undefined {
  return value.length === 0 ? undefined : value.toString("latin1");
}

/** A decimal integer, or NaN when it is none or lies beyond 2^53. */
function integerValue(value: Buffer): number {
  const isNegative = value[0] === 0x2d;
  if (value.length === (isNegative ? 1 : 0) || value.length > 20) return Number.NaN;
  let number = 0;
  for (let at = isNegative ? 1 : 0; at < value.length; at++) {
    const byte = value[at] as number;
    if (byte < 0x30 || byte > 0x39) return Number.NaN;
    number = number * 10 + (byte - 0x30);
  }
  if (!Number.isSafeInteger(number)) return Number.NaN;
  return isNegative && number > 0 ? -number : number;
}

/** GNU tar's escapes of the two characters that a record's key cannot hold. */
function unescapeXattrName(name: ByteString): ByteString {
  return name.includes("%") ? name.replace(/%(3D|25)/g, (_, code: string) => (code === "3D" ? "=" : "%")) : name;
}

/**
 * The reverse: `=` always, `%` only where it would read as an escape, so that tools without escapes (Docker's among
 * them) see every ordinary name as it is.
 */
function escapeXattrName(name: ByteString): ByteString {
  return /[%=]/.test(name) ? name.replace(/%(?=3D|25)/g, "%25").replace(/=/g, "%3D") : name;
}

/** The key under which the xattr `name` is written. */
export function paxXattrKey(name: ByteString): ByteString {
  return xattrKey + escapeXattrName(name);
}

/** One record; its length counts its own digits. */
export function formatPaxRecord(key: ByteString, value: ByteString): ByteString {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

/** A time as PAX writes it: `12`, `12.5`, `-0.5`. */
export function formatPaxTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds);
  const isBefore = seconds < 0;
  const whole = isBefore ? -(seconds + 1) : seconds;
  const fraction = isBefore ? 1_000_000_000 - nanoseconds : nanoseconds;
  return `${isBefore ? "-" : ""}${whole}.${String(fraction).padStart(9, "0").replace(/0+$/, "")}`;
}
