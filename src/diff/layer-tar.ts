/**
 * From a change stream to a layer tar, in Lamella's canonical form: the same changes give the same bytes.
 *
 * Deletions become empty files `.wh.<name>`, opaque directories hold an empty file `.wh..wh..opq`; both belong to root, have
 * mode 0600 and time 0, so that nothing of the moment of the export gets in. Names have no leading `./`; the root directory,
 * when it changed, is `./`. docs/formats/layer-tar.md has the rules and their sources (OCI image-spec, layer.md).
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import { read, type Stat } from "../sys/syscalls.ts";
import type { TarEntryType, TarHeader } from "../tar/entry.ts";
import { TarWriter } from "../tar/writer.ts";
import type { Change, ObjectChange } from "./change.ts";

/** Receives a tar as it is written. Byte arrays are valid during the call only. */
export interface LayerTarSink {
  /** Headers, padding, the end: everything that is not content of a file. */
  raw(bytes: Uint8Array): void;
  /** The next bytes are the content of `path`, `sizeBytes` long. */
  file(path: ByteString, sizeBytes: number): void;
  data(bytes: Uint8Array): void;
}

export interface LayerTarOptions {
  /** Times later than this many seconds since 1970 are written as it (SOURCE_DATE_EPOCH). */
  readonly clampMtimeSec?: number | undefined;
  /** What owners in the tar are less than on disk: the ids of a user namespace. */
  readonly ownerOffset?: OwnerOffset | undefined;
  /** Called between entries; throws to stop. */
  readonly throwIfCanceled?: () => void;
}

/** The owner on disk of what belongs to root in the tar. */
export interface OwnerOffset {
  readonly uid: number;
  readonly gid: number;
}

/** What a layer holds, counted. */
export interface LayerCounts {
  readonly added: number;
  readonly modified: number;
  readonly deleted: number;
  readonly opaque: number;
}

const typeOfMode: Readonly<Record<number, TarEntryType>> = {
  [C.S_IFREG]: "file",
  [C.S_IFDIR]: "directory",
  [C.S_IFLNK]: "symlink",
  [C.S_IFCHR]: "char",
  [C.S_IFBLK]: "block",
  [C.S_IFIFO]: "fifo",
};

const buffer = Buffer.allocUnsafeSlow(1024 * 1024);

/** Writes the whole tar of `changes` to `sink`. Errors: those of the stream; data_loss when a file shrinks meanwhile. */
export function writeLayerTar(
  changes: Iterable<Change>,
  sink: LayerTarSink,
  options: LayerTarOptions = {},
): LayerCounts {
  const writer = new TarWriter();
  const counts = { added: 0, modified: 0, deleted: 0, opaque: 0 };
  for (const change of changes) {
    options.throwIfCanceled?.();
    counts[change.kind]++;
    if (change.kind === "deleted") sink.raw(writer.header(whiteout(beside(change.path, ".wh."))));
    else if (change.kind === "opaque") sink.raw(writer.header(whiteout(`${change.path}/.wh..wh..opq`)));
    else writeObject(change, writer, sink, options);
  }
  sink.raw(writer.end());
  return counts;
}

function writeObject(change: ObjectChange, writer: TarWriter, sink: LayerTarSink, options: LayerTarOptions): void {
  const size = change.open ? change.stat.size : 0;
  sink.raw(writer.header(headerOf(change, size, options)));
  if (!change.open || size === 0) return;
  sink.file(change.path, size);
  using file = change.open();
  for (let left = size; left > 0; ) {
    const n = read(file.fd, buffer, Math.min(left, buffer.length));
    if (n === 0) {
      throw new LamellaError(
        "data_loss",
        "FILE_SHRANK",
        `${textOfBytes(change.path)}: ${left} bytes fewer than expected`,
        {
          hint: "the file was changed while its layer was read; stop what writes to it and try again",
        },
      );
    }
    sink.data(buffer.subarray(0, n));
    left -= n;
  }
  const padding = writer.padding(size);
  if (padding.length > 0) sink.raw(padding);
}

/** The tar header of an object; `size` is the length of the content that follows. */
function headerOf(change: ObjectChange, size: number, options: LayerTarOptions): TarHeader {
  const { stat, path } = change;
  const { clampMtimeSec, ownerOffset = { uid: 0, gid: 0 } } = options;
  const late = clampMtimeSec !== undefined && stat.mtimeSec >= clampMtimeSec;
  return {
    name: path === "" ? "./" : path,
    type: change.linkTo === undefined ? typeOf(stat, path) : "hardlink",
    mode: stat.mode & 0o7777,
    uid: stat.uid - ownerOffset.uid,
    gid: stat.gid - ownerOffset.gid,
    size,
    mtimeSec: late ? clampMtimeSec : stat.mtimeSec,
    mtimeNsec: late ? 0 : stat.mtimeNsec,
    linkName: change.linkTo ?? change.linkTarget ?? "",
    devMajor: stat.rdevMajor,
    devMinor: stat.rdevMinor,
    xattrs: change.xattrs.length === 0 ? undefined : new Map(change.xattrs.map(({ name, value }) => [name, value])),
  };
}

function typeOf(stat: Stat, path: ByteString): TarEntryType {
  const type = typeOfMode[stat.mode & C.S_IFMT];
  if (type !== undefined) return type;
  throw new LamellaError(
    "failed_precondition",
    "INEXPRESSIBLE_TYPE",
    `${textOfBytes(path)}: a layer cannot hold a socket`,
  );
}

function whiteout(name: ByteString): TarHeader {
  return { name, type: "file", mode: 0o600, uid: 0, gid: 0, size: 0, mtimeSec: 0, mtimeNsec: 0 };
}

/** `path` with `prefix` put before its last component. */
function beside(path: ByteString, prefix: ByteString): ByteString {
  const cut = path.lastIndexOf("/") + 1;
  return path.slice(0, cut) + prefix + path.slice(cut);
}
