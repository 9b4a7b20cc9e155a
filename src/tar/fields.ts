/**
 * The fixed fields of a 512-byte header block.
 *
 * ```
 *   0 name[100]   100 mode[8]  108 uid[8]  116 gid[8]  124 size[12]  136 mtime[12]  148 chksum[8]  156 typeflag[1]
 * 157 linkname[100]  257 magic[6] version[2]  265 uname[32]  297 gname[32]  329 devmajor[8]  337 devminor[8]
 * 345 prefix[155]                                     ustar: "ustar\0" "00"
 * 345 prefix[131] 476 atime[12] 488 ctime[12] 508 "tar\0"          star
 * 345 atime[12] 357 ctime[12] 386 sparse[4 × 24] 482 isextended 483 realsize[12]   GNU: "ustar  \0"
 * ```
 *
 * Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
import type { ByteString } from "../lib/bytes.ts";

/** Bytes in a block; headers, and payloads rounded up, are whole blocks. */
export const blockBytes = 512;

/** Which dialect a header's magic announces. */
export type HeaderDialect = "v7" | "ustar" | "star" | "gnu";

/** A header's sum of bytes, its checksum field counted as spaces. */
export interface HeaderSum {
  /** True when all 512 bytes are zero. */
  readonly isZero: boolean;
  readonly isValid: boolean;
}

/** What {@link sumOfBlock} found; one object, reused, since it is needed once an entry. */
const sum = { isZero: false, isValid: false };

/**
 * Checks a header's checksum, over its bytes as unsigned or, as some old tars wrote it, signed. `words` is the same
 * block seen as 128 32-bit words: summing four bytes at a step in 16-bit lanes (128 × 510 < 65,536) is what makes
 * archives of small files fast. The result is valid until the next call.
 */
export function sumOfBlock(block: Buffer, words: Uint32Array): HeaderSum {
  let lanes = 0;
  let lanesHigh = 0;
  for (let i = 0; i < 128; i++) {
    const word = words[i] as number;
    lanes += word & 0x00ff00ff;
    lanesHigh += (word >>> 8) & 0x00ff00ff;
  }
  let total = (lanes & 0xffff) + (lanes >>> 16) + (lanesHigh & 0xffff) + (lanesHigh >>> 16);
  sum.isZero = total === 0;
  if (sum.isZero) {
    sum.isValid = false;
    return sum;
  }
  let own = 0;
  for (let i = 148; i < 156; i++) own += block[i] as number;
  total += 8 * 0x20 - own;
  const stored = numberField(block, 148, 8);
  sum.isValid = stored === total || stored === signedSum(block);
  return sum;
}

function signedSum(block: Buffer): number {
  let total = 8 * 0x20;
  for (let i = 0; i < blockBytes; i++) if (i < 148 || i >= 156) total += ((block[i] as number) << 24) >> 24;
  return total;
}

/** The dialect of a header, from its magic. */
export function dialectOf(block: Buffer): HeaderDialect {
  // "ustar"
  if (block[257] !== 0x75 || block[258] !== 0x73 || block[259] !== 0x74 || block[260] !== 0x61 || block[261] !== 0x72)
    return "v7";
  if (block[262] === 0) {
    const isStar = block[508] === 0x74 && block[509] === 0x61 && block[510] === 0x72 && block[511] === 0;
    return isStar ? "star" : "ustar";
  }
  return block[262] === 0x20 && block[263] === 0x20 && block[264] === 0 ? "gnu" : "v7";
}

/** The bytes of a text field up to its first NUL, or all of it. */
export function textField(block: Buffer, start: number, length: number): ByteString {
  const limit = start + length;
  let end = start;
  while (end < limit && block[end] !== 0) end++;
  return end === start ? "" : block.toString("latin1", start, end);
}

/**
 * The value of a numeric field: octal digits between spaces and NULs (an empty field is 0), or, with the top bit set,
 * GNU's base-256 two's complement. `undefined` when it is neither, NaN when it is a number beyond 2^53.
 */
export function numberField(block: Buffer, start: number, length: number): number | undefined {
  const limit = start + length;
  let at = start;
  let byte = block[at] as number;
  if (byte & 0x80) return base256Field(block, start, length);
  while (byte === 0x20 || byte === 0) {
    if (++at === limit) return 0;
    byte = block[at] as number;
  }
  let value = 0;
  while (byte >= 0x30 && byte <= 0x37) {
    value = value * 8 + (byte - 0x30);
    if (++at === limit) return value;
    byte = block[at] as number;
  }
  while (byte === 0x20) {
    if (++at === limit) return value;
    byte = block[at] as number;
  }
  return byte === 0 ? value : undefined;
}

function base256Field(block: Buffer, start: number, length: number): number | undefined {
  const first = block[start] as number;
  const isNegative = (first & 0x40) !== 0;
  const flip = isNegative ? 0xff : 0;
  let value = (first ^ flip) & 0x3f;
  for (let at = start + 1; at < start + length; at++) value = value * 256 + ((block[at] as number) ^ flip);
  if (isNegative) value = -value - 1;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

/** Bytes of padding after `size` payload bytes. */
export function paddingOf(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}
