/**
 * What a tar archive says about one object, after PAX and GNU extensions have been merged into it. Names, link targets,
 * user and group names and xattr names are byte strings (one character a byte) exactly as the archive holds them: no
 * cleaning of `./`, `..`, leading or trailing slashes; whoever applies entries to a tree judges them.
 */
import { type ErrorKind, LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";

/** The kinds of object a tar entry can be; `unknown` covers typeflags that only some dialect defines. */
export type TarEntryType =
  | "file"
  | "hardlink"
  | "symlink"
  | "char"
  | "block"
  | "directory"
  | "fifo"
  /** Any other typeflag (POSIX reserves `A`–`Z`; GNU's `D`, `M`, `V`). Its payload is delivered as a file's is. */
  | "unknown";

/** One run of stored bytes of a sparse file; what lies between the regions is zeros. */
export interface SparseRegion {
  /** Where in the file the run starts, in bytes. */
  readonly offset: number;
  /** How many bytes it holds. */
  readonly length: number;
}

/** The metadata the writer needs. A {@link TarEntry} that is not sparse is one. */
export interface TarHeader {
  /** The path as it stands in the archive. The writer ends directories' names with `/`. */
  readonly name: ByteString;
  readonly type: TarEntryType;
  /** Permission bits with setuid, setgid and sticky: 0..0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Payload bytes that follow the header; 0 (or absent) for everything but files. */
  readonly size?: number | undefined;
  /** Seconds since 1970, negative before; together with `mtimeNsec` (0..999,999,999, counted forward). */
  readonly mtimeSec: number;
  readonly mtimeNsec?: number | undefined;
  /** Target of a symbolic link, or the name of the entry a hard link repeats; else empty. */
  readonly linkName?: ByteString | undefined;
  readonly devMajor?: number | undefined;
  readonly devMinor?: number | undefined;
  /** Extended attributes by full name (`user.x`, `security.capability`). */
  readonly xattrs?: ReadonlyMap<ByteString, Uint8Array> | undefined;
  /** The writer stores files whole and refuses a header with a sparse map: expand the data first. */
  readonly sparse?: readonly SparseRegion[] | undefined;
}

/** One entry as the reader found it. */
export interface TarEntry extends TarHeader {
  /** The typeflag byte of the header, e.g. 0x30 (`"0"`) or 0x53 (GNU sparse). */
  readonly typeflag: number;
  /** Bytes delivered as data: what the archive stores. For a sparse file the sum of its regions. */
  readonly size: number;
  /** Bytes the file has once its holes are filled in; `size` unless the entry is sparse. */
  readonly realSize: number;
  readonly mtimeNsec: number;
  readonly linkName: ByteString;
  /** Device numbers; 0 for everything but devices. */
  readonly devMajor: number;
  readonly devMinor: number;
  readonly uname: ByteString;
  readonly gname: ByteString;
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
  /** Ascending and not overlapping; their lengths add up to `size`. */
  readonly sparse: readonly SparseRegion[] | undefined;
  /** Where in the stream the entry's first header block lies, extension headers included. */
  readonly headerOffset: number;
  /** Where in the stream its payload starts. */
  readonly dataOffset: number;
}

/** The error for what is wrong in an archive; names the entry, when one is known, and the place. */
export function tarError(
  kind: ErrorKind,
  code: string,
  what: string,
  where: { readonly name?: ByteString | undefined; readonly offset: number },
): LamellaError {
  const entry = where.name === undefined || where.name === "" ? "tar" : `tar entry ${shownName(where.name)}`;
  return new LamellaError(kind, code, `${entry} at byte ${where.offset}: ${what}`);
}

/** A name fit for a message: text, quoted, control characters escaped, not longer than a line or two. */
export function shownName(name: ByteString): string {
  const text = JSON.stringify(textOfBytes(name.length > 256 ? name.slice(0, 256) : name));
  return name.length > 256 ? `${text}… (${name.length} bytes)` : text;
}
