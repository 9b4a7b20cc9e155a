/**
 * ADD of a local archive: unpacks a tar (plain, gzip, zstd) into a directory of the layer. Names are resolved with that
 * directory as the root, as Docker does in a chroot: nothing outside it is reached. Owners, modes and times are the
 * archive's; whiteout names mean nothing here.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import { SyscallError } from "../../errors/syscall-error.ts";
import { removeTreeAt } from "../../fs/remove-tree.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import {
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_WRONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
} from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { systemZstd } from "../../sys/zstd.ts";
import { decompress, detectCompression, type TarEntry, type TarHandler, TarReader } from "../../tar/index.ts";
import { locate, makeDirectories } from "../rooted-path.ts";
import { readIdMaps, requireMapped } from "../runtime/id-map.ts";

/** A file that has been seen to be an archive. */
export interface Archive {
  readonly fd: number;
}

/** The archive an open file holds; undefined when it is none. Errors: unimplemented for bzip2 and xz. */
export async function archiveIn(fd: number): Promise<Archive | undefined> {
  const head = Buffer.alloc(512);
  const n = sys.pread64(fd, head, head.length, 0);
  if (n < 10) return undefined;
  const format = detectCompression(head.subarray(0, n));
  if (format === "bzip2" || format === "xz") {
    throw new LamellaError(
      "unimplemented",
      "COMPRESSION_UNSUPPORTED",
      `an archive compressed with ${format} is not unpacked`,
      {
        hint: `recompress it with gzip or zstd, or COPY it and unpack it in a RUN`,
      },
    );
  }
  return (await beginsWithEntry(fd)) ? { fd } : undefined;
}

/** True when the first 512 bytes, decompressed, are a tar header. */
async function beginsWithEntry(fd: number): Promise<boolean> {
  let seen = 0;
  const reader = new TarReader({
    entry: () => {
      seen++;
    },
  });
  try {
    for await (const chunk of decompress(chunksOf(fd), { zstd: systemZstd() })) {
      reader.push(chunk);
      if (seen > 0) return true;
    }
  } catch {
    // Not a tar, or damaged: then it is copied as the file it is, as Docker does.
    return seen > 0;
  }
  return seen > 0;
}

async function* chunksOf(fd: number): AsyncGenerator<Uint8Array> {
  const size = 256 * 1024;
  for (let offset = 0; ; ) {
    const chunk = Buffer.allocUnsafeSlow(size);
    const n = sys.pread64(fd, chunk, size, offset);
    if (n === 0) return;
    offset += n;
    yield chunk.subarray(0, n);
  }
}

/** Unpacks `archive` into the directory `target`. Errors: those of the tar codec, UNMAPPED_ID, SyscallError. */
export async function extractArchive(
  archive: Archive,
  target: number,
  checkpoint: () => void,
): Promise<{ readonly entries: number; readonly bytes: number }> {
  const extractor = new Extractor(target);
  try {
    const reader = new TarReader(extractor);
    for await (const chunk of decompress(chunksOf(archive.fd), { zstd: systemZstd() })) {
      checkpoint();
      reader.push(chunk);
    }
    reader.end();
    extractor.finish();
  } finally {
    extractor[Symbol.dispose]();
  }
  return { entries: extractor.entries, bytes: extractor.bytes };
}

class Extractor implements TarHandler, Disposable {
  entries = 0;
  bytes = 0;
  readonly #target: number;
  readonly #idMaps = readIdMaps();
  readonly #directories: { readonly path: ByteString; readonly entry: TarEntry }[] = [];
  #file: { readonly fd: sys.OwnedFd; readonly entry: TarEntry; offset: number; region: number } | undefined;

  constructor(target: number) {
    this.#target = target;
  }

  entry(entry: TarEntry): void {
    const name = entry.name
      .split("/")
      .filter((part) => part !== "" && part !== ".")
      .join("/");
    if (entry.type === "unknown") return;
    // The archive's root is the destination, which is as it is.
    if (name === "") return;
    requireMapped(this.#idMaps, entry.uid, entry.gid, `archive entry ${textOfBytes(name)}`);
    this.entries++;
    const cut = name.lastIndexOf("/");
    using parent = makeDirectories(this.#target, name.slice(0, Math.max(0, cut)), { mode: 0o755, uid: 0, gid: 0 });
    const last = name.slice(cut + 1);
    if (last === "..") return;
    const existing = sys.statIfExists(parent.fd, last);
    const merges = entry.type === "directory" && existing !== undefined && (existing.mode & S_IFMT) === S_IFDIR;
    if (existing !== undefined && !merges) removeTreeAt(parent.fd, last);
    switch (entry.type) {
      case "directory":
        if (!merges) sys.mkdirat(parent.fd, last, 0o700);
        this.#directories.push({ path: name, entry });
        break;
      case "file": {
        const fd = sys.openat(parent.fd, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
        this.#file = { fd: new sys.OwnedFd(fd), entry, offset: 0, region: 0 };
        if (entry.realSize > 0) sys.ftruncate(fd, entry.realSize);
        break;
      }
      case "symlink":
        sys.symlinkat(entry.linkName, parent.fd, last);
        break;
      case "hardlink": {
        using to = locate(this.#target, entry.linkName, { followLast: false });
        if (to.stat === undefined || to.name === undefined)
          throw new LamellaError(
            "invalid_argument",
            "BAD_LINK",
            `archive entry ${textOfBytes(name)}: its link target ${textOfBytes(entry.linkName)} does not exist`,
          );
        sys.linkat(to.directory, to.name, parent.fd, last);
        return;
      }
      case "char":
      case "block":
      case "fifo": {
        const type = entry.type === "char" ? S_IFCHR : entry.type === "block" ? S_IFBLK : S_IFIFO;
        sys.mknodat(parent.fd, last, type | 0o600, entry.devMajor, entry.devMinor);
        break;
      }
      default:
        entry.type satisfies never;
    }
    this.#attributes(parent.fd, last, entry);
    if (entry.type !== "directory") setTimes(parent.fd, last, entry);
  }

  data(bytes: Uint8Array): void {
    const file = this.#file;
    if (file === undefined) return;
    this.bytes += bytes.length;
    const { sparse } = file.entry;
    let rest = bytes;
    while (rest.length > 0) {
      let length = rest.length;
      let at = file.offset;
      if (sparse !== undefined) {
        const region = sparse[file.region];
        if (region === undefined) return;
        at = region.offset + file.offset;
        length = Math.min(length, region.length - file.offset);
      }
      const n = raw.pwrite64(file.fd.fd, rest, length, at);
      if (n < 0) throw new SyscallError("pwrite64", -n, textOfBytes(file.entry.name));
      file.offset += n;
      rest = rest.subarray(n);
      if (sparse !== undefined && file.offset === sparse[file.region]?.length) {
        file.region++;
        file.offset = 0;
      }
    }
  }

  endEntry(entry: TarEntry): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const mtimeNsec = entry.mtimeNsec;
    sys.utimensat(file.fd.fd, "", {
      atimeSec: entry.mtimeSec,
      atimeNsec: mtimeNsec,
      mtimeSec: entry.mtimeSec,
      mtimeNsec,
    });
    file.fd[Symbol.dispose]();
  }

  /** Directories' times, which their content changed. */
  finish(): void {
    for (const { path, entry } of this.#directories.reverse()) {
      using found = locate(this.#target, path, { followLast: false });
      if (found.stat !== undefined && (found.stat.mode & S_IFMT) === S_IFDIR && found.name !== undefined)
        setTimes(found.directory, found.name, entry);
    }
  }

  [Symbol.dispose](): void {
    this.#file?.fd[Symbol.dispose]();
  }

  #attributes(directory: number, name: ByteString, entry: TarEntry): void {
    sys.lchownat(directory, name, entry.uid, entry.gid);
    if (entry.type !== "symlink") sys.lchmodat(directory, name, entry.mode & 0o7777);
    for (const [attribute, value] of entry.xattrs) {
      // Attributes of the overlay itself would change how the layer is read.
      if (/^(?:trusted|user)\.overlay\./.test(attribute)) continue;
      raw.lsetxattrat(directory, name, attribute, value);
    }
  }
}

function setTimes(directory: number, name: ByteString, entry: TarEntry): void {
  const { mtimeSec, mtimeNsec } = entry;
  sys.utimensat(directory, name, { atimeSec: mtimeSec, atimeNsec: mtimeNsec, mtimeSec, mtimeNsec });
}
