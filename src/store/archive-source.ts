/**
 * Where the members of an archive or layout lie, as parts of files: nothing is extracted to be looked at. Links inside an
 * archive are followed by name within it; in a layout directory nothing but regular files reached without symbolic links
 * counts (CVE-2014-9356 and its kin). Files stay open as descriptors, so that nobody exchanges them while they are read.
 */
import { createReadStream } from "node:fs";
import { LamellaError } from "../errors/lamella-error.ts";
import { SyscallError } from "../errors/syscall-error.ts";
import { type ByteString, bytesOfText } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { paddingOf } from "../tar/fields.ts";
import { type TarEntry, TarReader } from "../tar/index.ts";

/** Bytes within a file. */
export interface FilePart {
  /** Path that names an open descriptor of this process. */
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** A set of named files. Names are relative paths without `.` and `..`. */
export interface ArchiveSource extends Disposable {
  /** What it is, for messages. */
  readonly what: string;
  /** Where a member lies; undefined when there is none. Errors: invalid_argument for what is no regular file. */
  find(name: string): FilePart | undefined;
}

/** Members that need more than this many links to be reached are refused. */
const maxLinks = 8;
const maxMembers = 200_000;
/** The header of one member is read in pieces of this size; extension headers take further ones. */
const headerBytes = 4096;
const zeros = Buffer.alloc(1024 * 1024);

type Member =
  | { readonly type: "file"; readonly offset: number; readonly size: number }
  | { readonly type: "link"; readonly target: ByteString }
  | { readonly type: "directory" | "other" };

/** An uncompressed tar in a seekable file. Only headers are read: for payloads the reader is given zeros instead. */
export class TarFileSource implements ArchiveSource {
  readonly what: string;
  readonly #file: sys.OwnedFd;
  readonly #members = new Map<ByteString, Member>();

  /** Takes over `file`. Errors: those of the tar reader, named after `what`. */
  constructor(what: string, file: sys.OwnedFd) {
    this.what = what;
    this.#file = file;
    try {
      this.#index();
    } catch (error) {
      file[Symbol.dispose]();
      if (!(error instanceof LamellaError)) throw error;
      throw new LamellaError(error.kind, error.code, `${what}: ${error.message}`, { hint: error.hint, cause: error });
    }
  }

  find(name: string): FilePart | undefined {
    let at = bytesOfText(name);
    for (let links = 0; links <= maxLinks; links++) {
      const member = this.#members.get(at);
      if (member === undefined) {
        if (links === 0) return undefined;
        throw badMember(this.what, name, "is a link to what is not in the archive");
      }
      if (member.type === "file") {
        return { file: `/proc/self/fd/${this.#file.fd}`, offset: member.offset, length: member.size };
      }
      if (member.type !== "link") throw badMember(this.what, name, "is no regular file");
      at = member.target;
    }
    throw badMember(this.what, name, `is behind more than ${maxLinks} links`);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #index(): void {
    const size = sys.fstat(this.#file.fd).size;
    let entry: TarEntry | undefined;
    const reader = new TarReader(
      {
        entry: (found) => {
          entry = found;
          this.#add(found);
        },
      },
      { paxBytes: 1024 * 1024, sparseRegions: 10_000 },
    );
    const buffer = Buffer.allocUnsafe(headerBytes);
    let start = 0;
    let length = 0;
    let at = 0;
    while (at < size) {
      if (at < start || at + 512 > start + length) {
        start = at;
        length = sys.pread64(this.#file.fd, buffer, headerBytes, start);
        if (length <= 0) break;
      }
      entry = undefined;
      const block = buffer.subarray(at - start, Math.min(at - start + 512, length));
      reader.push(block);
      at += block.length;
      if (reader.ending === "complete") break;
      if (entry === undefined) continue;
      const { dataOffset, size: payload } = entry as TarEntry;
      const end = Math.min(dataOffset + payload + paddingOf(payload), size);
      for (; at < end; at = Math.min(at + zeros.length, end)) reader.push(zeros.subarray(0, end - at));
    }
    reader.end();
  }

  #add(entry: TarEntry): void {
    const name = memberName(entry.name);
    // A path that leaves the archive names no member: nothing asks for it.
    if (name === undefined || name === "") return;
    const member = memberOf(entry, name);
    const before = this.#members.get(name);
    if (before !== undefined && !(before.type === "directory" && member.type === "directory")) {
      throw badMember(this.what, name, "is in the archive twice");
    }
    if (this.#members.size >= maxMembers) throw badMember(this.what, name, `is one of more than ${maxMembers} members`);
    this.#members.set(name, member);
  }
}

function memberOf(entry: TarEntry, name: ByteString): Member {
  if (entry.sparse !== undefined) return { type: "other" };
  switch (entry.type) {
    case "file":
      return { type: "file", offset: entry.dataOffset, size: entry.size };
    case "directory":
      return { type: "directory" };
    case "hardlink": {
      const target = memberName(entry.linkName);
      return target === undefined ? { type: "other" } : { type: "link", target };
    }
    case "symlink": {
      const directory = name.slice(0, name.lastIndexOf("/") + 1);
      const target = entry.linkName.startsWith("/") ? undefined : memberName(directory + entry.linkName);
      return target === undefined ? { type: "other" } : { type: "link", target };
    }
    default:
      return { type: "other" };
  }
}

/** The path without `.`, `..` and needless slashes; undefined when it is absolute or climbs out. */
function memberName(path: ByteString): ByteString | undefined {
  if (path.startsWith("/")) return undefined;
  const parts: ByteString[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join("/");
}

/** The directory of an OCI layout. */
export class DirectorySource implements ArchiveSource {
  readonly what: string;
  readonly #directory: sys.OwnedFd;
  readonly #open = new Map<string, { readonly file: sys.OwnedFd; readonly size: number }>();

  constructor(path: string) {
    this.what = path;
    this.#directory = sys.open(bytesOfText(path), C.O_RDONLY | C.O_DIRECTORY);
  }

  find(name: string): FilePart | undefined {
    let opened = this.#open.get(name);
    if (opened === undefined) {
      const fd = this.#openFile(bytesOfText(name));
      if (fd === undefined) return undefined;
      const file = new sys.OwnedFd(fd);
      const stat = sys.fstat(fd);
      if ((stat.mode & C.S_IFMT) !== C.S_IFREG) {
        file[Symbol.dispose]();
        throw badMember(this.what, name, "is no regular file");
      }
      opened = { file, size: stat.size };
      this.#open.set(name, opened);
    }
    return { file: `/proc/self/fd/${opened.file.fd}`, offset: 0, length: opened.size };
  }

  [Symbol.dispose](): void {
    for (const { file } of this.#open.values()) file[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }

  /** Opens beneath the directory, following no link and waiting for no fifo. */
  #openFile(name: ByteString): number | undefined {
    const flags = C.O_RDONLY | C.O_NONBLOCK | C.O_NOCTTY;
    const resolve = C.RESOLVE_BENEATH | C.RESOLVE_NO_SYMLINKS | C.RESOLVE_NO_MAGICLINKS;
    const fd = raw.haveOpenat2
      ? raw.openat2(this.#directory.fd, name, flags, 0, resolve)
      : openByComponents(this.#directory.fd, name, flags);
    if (fd >= 0) return fd;
    const error = new SyscallError("openat2", -fd, `${this.what}/${name}`);
    if (error.code === "ENOENT") return undefined;
    if (error.code === "ELOOP" || error.code === "ENOTDIR" || error.code === "ENXIO") {
      throw badMember(this.what, name, "is no regular file", error);
    }
    throw error;
  }
}

/** For kernels without openat2: one component at a time, none of them a link. Names hold no `..` (see memberPath). */
function openByComponents(directory: number, name: ByteString, flags: number): number {
  const parts = name.split("/");
  const last = parts.pop() ?? "";
  let at = directory;
  try {
    for (const part of parts) {
      const next = raw.openat(at, part, C.O_PATH | C.O_DIRECTORY | C.O_NOFOLLOW);
      if (at !== directory) raw.close(at);
      at = next;
      if (next < 0) return next;
    }
    return raw.openat(at, last, flags | C.O_NOFOLLOW);
  } finally {
    if (at !== directory && at >= 0) raw.close(at);
  }
}

/** A member's whole content. Errors: resource_exhausted when it is longer than `maxBytes`, data_loss when it is cut short. */
export function readPart(part: FilePart, what: string, maxBytes: number): Buffer {
  if (part.length > maxBytes) {
    throw new LamellaError(
      "resource_exhausted",
      "DOCUMENT_TOO_LARGE",
      `${what}: ${part.length} bytes, more than the limit of ${maxBytes}`,
    );
  }
  using file = sys.open(bytesOfText(part.file), C.O_RDONLY);
  const bytes = Buffer.alloc(part.length);
  for (let at = 0; at < bytes.length; ) {
    const n = sys.pread64(file.fd, bytes.subarray(at), bytes.length - at, part.offset + at);
    if (n === 0) throw new LamellaError("data_loss", "TRUNCATED", `${what}: the file ends within it`);
    at += n;
  }
  return bytes;
}

/** A member's content as a stream. */
export function streamPart(part: FilePart): AsyncIterable<Uint8Array> {
  const { file, offset, length } = part;
  if (length === 0) return (async function* () {})();
  return createReadStream(file, { start: offset, end: offset + length - 1, highWaterMark: 512 * 1024 });
}

/** The error for a member that cannot be used. */
export function badMember(what: string, name: string, problem: string, cause?: unknown): LamellaError {
  return new LamellaError("invalid_argument", "ARCHIVE_MEMBER", `${what}: ${JSON.stringify(name)} ${problem}`, {
    cause,
  });
}
