/** Comparing what two objects of different trees hold. Paths are names relative to open directories. */
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { llistxattrat, OwnedFd, openat, read, type Stat } from "../sys/syscalls.ts";
import type { Xattr } from "./change.ts";
import { isHostXattr } from "./layer-xattrs.ts";

const BLOCK_BYTES = 1024 * 1024;
const blockA = Buffer.allocUnsafeSlow(BLOCK_BYTES);
const blockB = Buffer.allocUnsafeSlow(BLOCK_BYTES);
const ENXIO = -6;
const ENODATA = -61;

/** Opens a regular file for reading, and nothing else: a fifo put in its place does not block. */
export function openFile(dirFd: number, name: ByteString): OwnedFd {
  return new OwnedFd(openat(dirFd, name, C.O_RDONLY | C.O_NOFOLLOW | C.O_NONBLOCK));
}

function fill(fd: number, into: Buffer): number {
  let filled = 0;
  while (filled < into.length) {
    const n = read(fd, filled === 0 ? into : into.subarray(filled));
    if (n === 0) break;
    filled += n;
  }
  return filled;
}

/** Where the next data at or after `offset` begins, `size` when there is only a hole. */
function nextData(fd: number, offset: number, size: number): number {
  const at = raw.lseek(fd, offset, C.SEEK_DATA);
  if (at === ENXIO) return size;
  return at < 0 ? offset : at;
}

/** True when two files of equal size hold the same bytes. Holes that both have are not read. */
export function sameContent(a: OwnedFd, b: OwnedFd, stats: { readonly a: Stat; readonly b: Stat }): boolean {
  const { size } = stats.a;
  const sparse = size > BLOCK_BYTES && stats.a.blocks * 512 < size && stats.b.blocks * 512 < size;
  for (let offset = 0; offset < size; ) {
    if (sparse) {
      const data = Math.min(nextData(a.fd, offset, size), nextData(b.fd, offset, size));
      if (data >= size) return true;
      offset = data;
      for (const { fd } of [a, b]) {
        const at = raw.lseek(fd, offset, C.SEEK_SET);
        if (at < 0) throw new SyscallError("lseek", -at);
      }
    }
    const n = fill(a.fd, blockA);
    const m = fill(b.fd, blockB);
    if (n !== m || blockA.compare(blockB, 0, n, 0, n) !== 0) return false;
    if (n < BLOCK_BYTES) return true;
    offset += n;
  }
  return true;
}

/** The attributes of an object that a layer carries, sorted by name. */
export function layerXattrs(dirFd: number, name: ByteString): Xattr[] {
  const xattrs: Xattr[] = [];
  for (const key of llistxattrat(dirFd, name).sort()) {
    if (isHostXattr(key)) continue;
    const value = raw.lgetxattrat(dirFd, name, key);
    if (value === ENODATA) continue;
    if (typeof value === "number") throw new SyscallError(`lgetxattr ${textOfBytes(key)}`, -value, textOfBytes(name));
    xattrs.push({ name: key, value });
  }
  return xattrs;
}

/** True when both objects have the same attributes, as far as a layer carries them. */
export function sameXattrs(aDirFd: number, bDirFd: number, name: ByteString): boolean {
  const a = layerXattrs(aDirFd, name);
  const b = layerXattrs(bDirFd, name);
  return (
    a.length === b.length &&
    a.every((xattr, i) => xattr.name === b[i]?.name && Buffer.compare(xattr.value, b[i].value) === 0)
  );
}
