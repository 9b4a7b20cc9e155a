/**
 * Reads a btrfs send stream: what is to be done to one tree to get another, command by command. Versions 1 and 2; pushed in
 * pieces of any size.
 *
 * ```
 * stream      "btrfs-stream\0" | u32 version | command…
 * command     u32 length of what follows the header | u16 command | u32 crc | attribute…
 * attribute   u16 type | u16 length | value          in version 2, DATA is u16 type | all that is left
 * ```
 * All numbers are little-endian. The CRC-32C is that of the whole command with zeros in its place. The stream ends with the
 * command END. Of the attributes only paths are read: they are names in the tree as the commands before have left it,
 * relative to its root, which is "".
 *
 * Errors: data_loss, code SEND_STREAM.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import { crc32c } from "../lib/crc32c.ts";

/** What a command does, as far as names go. */
export type SendCommand =
  | { readonly kind: "make"; readonly path: ByteString }
  | { readonly kind: "rename"; readonly path: ByteString; readonly to: ByteString }
  /** Another name `path` for the object that `target` names. */
  | { readonly kind: "link"; readonly path: ByteString; readonly target: ByteString }
  | { readonly kind: "remove"; readonly path: ByteString }
  /** Something of the object changes, but not its names. */
  | { readonly kind: "change"; readonly path: ByteString };

const MAGIC = Buffer.from("btrfs-stream\0", "latin1");
const STREAM_HEADER = MAGIC.length + 4;
const COMMAND_HEADER = 10;
/** Version 1 has none longer than 64 KiB; version 2 knows no limit, but this is more than its longest data. */
const LONGEST_COMMAND = 16 << 20;

const PATH = 15;
const PATH_TO = 16;
const PATH_LINK = 17;
const DATA = 19;
const LAST_ATTRIBUTE = 31;

const _END = 21;
/** What each command does, by its number. `tree`: it is about the tree as a whole. */
const kinds: readonly (SendCommand["kind"] | "tree" | "end" | undefined)[] = [
  undefined,
  "tree", // SUBVOL
  "tree", // SNAPSHOT
  "make", // MKFILE
  "make", // MKDIR
  "make", // MKNOD
  "make", // MKFIFO
  "make", // MKSOCK
  "make", // SYMLINK
  "rename",
  "link",
  "remove", // UNLINK
  "remove", // RMDIR
  "change", // SET_XATTR
  "change", // REMOVE_XATTR
  "change", // WRITE
  "change", // CLONE
  "change", // TRUNCATE
  "change", // CHMOD
  "change", // CHOWN
  "change", // UTIMES
  "end",
  "change", // UPDATE_EXTENT
  "change", // FALLOCATE
  "change", // FILEATTR
  "change", // ENCODED_WRITE
];
const LAST_COMMAND_V1 = 22;

/** The error of a stream that is not as it must be. */
export function broken(what: string): LamellaError {
  return new LamellaError("data_loss", "SEND_STREAM", `btrfs send stream: ${what}`);
}

export class SendStreamReader {
  readonly #onCommand: (command: SendCommand) => void;
  #rest: Buffer = Buffer.alloc(0);
  #version = 0;
  #ended = false;

  constructor(onCommand: (command: SendCommand) => void) {
    this.#onCommand = onCommand;
  }

  push(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (this.#version === 0) {
      if (bytes.length < STREAM_HEADER) {
        this.#rest = Buffer.from(bytes);
        return;
      }
      this.#readHeader(bytes);
      bytes = bytes.subarray(STREAM_HEADER);
    }
    while (bytes.length >= COMMAND_HEADER) {
      const length = bytes.readUInt32LE(0);
      if (length > LONGEST_COMMAND) throw broken(`a command of ${length} bytes`);
      const end = COMMAND_HEADER + length;
      if (bytes.length < end) break;
      this.#command(bytes.subarray(0, end));
      bytes = bytes.subarray(end);
    }
    // The caller may use its buffer again.
    this.#rest = Buffer.from(bytes);
  }

  /** Call when there is no more. */
  end(): void {
    if (!this.#ended) throw broken("it ends before its end");
  }

  #readHeader(bytes: Buffer): void {
    if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw broken("it does not begin as one");
    this.#version = bytes.readUInt32LE(MAGIC.length);
    if (this.#version !== 1 && this.#version !== 2) throw broken(`version ${this.#version} is not known`);
  }

  #command(bytes: Buffer): void {
    if (this.#ended) throw broken("it goes on after its end");
    const number = bytes.readUInt16LE(4);
    const sum = crc32c(crc32c(crc32c(0, bytes.subarray(0, 6)), noSum), bytes.subarray(COMMAND_HEADER));
    if (sum !== bytes.readUInt32LE(6)) throw broken(`the checksum of a command (${number}) is wrong`);
    const kind = this.#version === 1 && number > LAST_COMMAND_V1 ? undefined : kinds[number];
    if (kind === undefined) throw broken(`command ${number} is not known`);
    const paths = this.#paths(bytes);
    const named = (attribute: number): ByteString => {
      const path = paths.get(attribute);
      if (path === undefined) throw broken(`command ${number} has no path`);
      return path;
    };
    switch (kind) {
      case "tree":
        return;
      case "end":
        this.#ended = true;
        return;
      case "rename":
        this.#onCommand({ kind, path: named(PATH), to: named(PATH_TO) });
        return;
      case "link":
        this.#onCommand({ kind, path: named(PATH), target: named(PATH_LINK) });
        return;
      default:
        this.#onCommand({ kind, path: named(PATH) });
    }
  }

  #paths(bytes: Buffer): ReadonlyMap<number, ByteString> {
    const paths = new Map<number, ByteString>();
    let at = COMMAND_HEADER;
    while (at < bytes.length) {
      if (bytes.length - at < 4) throw broken("an attribute is cut off");
      const type = bytes.readUInt16LE(at);
      if (type === 0 || type > LAST_ATTRIBUTE) throw broken(`attribute ${type} is not known`);
      if (type === DATA && this.#version > 1) break;
      const end = at + 4 + bytes.readUInt16LE(at + 2);
      if (end > bytes.length) throw broken("an attribute is cut off");
      if (type === PATH || type === PATH_TO || type === PATH_LINK)
        paths.set(type, bytes.toString("latin1", at + 4, end));
      at = end;
    }
    return paths;
  }
}

const noSum = Buffer.alloc(4);
