/**
 * tar-split: what Docker keeps of a layer's tar besides the files, in `tar-split.json.gz`. Uncompressed it is one JSON
 * object a line; one after the other they give the tar's bytes:
 *
 *     {"type":2,"payload":"<base64>","position":0}                          a segment: headers, padding, the end
 *     {"type":1,"name":"etc/passwd","size":1024,"payload":"<base64>",…}     the whole content of that file of the layer;
 *                                                                           the payload is its CRC-64, 8 bytes
 *     {"type":1,"name":"etc/","payload":null,…}                             an object without content: no bytes
 *
 * A name that is not UTF-8 stands in `name_raw`, in base64. `position` counts the lines. Docker refuses two files of one
 * name; a reader of it must be content with segments that hold contents too, as nothing tells them apart.
 *
 * Source: github.com/vbatts/tar-split, tar/storage and tar/asm. Both directions are incremental and hold one line.
 */
import { isUtf8 } from "node:buffer";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { encodeJson } from "../../oci/json.ts";

const fileType = 1;
const segmentType = 2;
const newline = 0x0a;
/** Longest line that is read. Docker's are as long as a tar's longest header or its padding at the end; it cuts at 1 MiB. */
const maxLineBytes = 64 * 1024 * 1024;
/** Longest segment that is written. */
const maxSegmentBytes = 256 * 1024;
const crcBytes = 8;

/** Takes what a tar-split says, in order. */
export interface TarSplitHandler {
  segment(bytes: Buffer): void;
  /** The content of a file, never empty. `crc`: its CRC-64. */
  file(name: ByteString, sizeBytes: number, crc: Buffer): void;
}

/** Reads a tar-split, already decompressed. */
export class TarSplitDecoder {
  readonly #handler: TarSplitHandler;
  #rest: Buffer[] = [];
  #restBytes = 0;
  #line = 0;

  constructor(handler: TarSplitHandler) {
    this.#handler = handler;
  }

  /** Reads the next bytes. Errors: data_loss (TAR_SPLIT_DAMAGED), and what the handler throws. */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const end = chunk.indexOf(newline, at);
      if (end < 0) {
        this.#keep(Buffer.from(chunk.subarray(at)));
        return;
      }
      this.#keep(chunk.subarray(at, end));
      const line = this.#rest.length === 1 ? (this.#rest[0] as Buffer) : Buffer.concat(this.#rest);
      this.#rest = [];
      this.#restBytes = 0;
      this.#entry(line);
      at = end + 1;
    }
  }

  /** Ends it. Errors: data_loss when it stops within a line. */
  end(): void {
    if (this.#restBytes > 0) throw this.#damaged("it ends within a line");
  }

  #keep(bytes: Buffer): void {
    this.#rest.push(bytes);
    this.#restBytes += bytes.length;
    if (this.#restBytes > maxLineBytes) throw this.#damaged(`a line of more than ${maxLineBytes} bytes`);
  }

  #entry(line: Buffer): void {
    this.#line++;
    if (line.length === 0) return;
    let entry: unknown;
    try {
      entry = JSON.parse(line.toString("utf8"));
    } catch (cause) {
      throw this.#damaged("it is not JSON", cause);
    }
    if (typeof entry !== "object" || entry === null) throw this.#damaged("it is no object");
    const { type, name, name_raw, size = 0, payload } = entry as Readonly<Record<string, unknown>>;
    if (type === segmentType) {
      this.#handler.segment(this.#base64(payload, "payload"));
      return;
    }
    if (type !== fileType) throw this.#damaged(`a type ${JSON.stringify(type)}`);
    if (!Number.isSafeInteger(size) || (size as number) < 0) throw this.#damaged("a size that is none");
    if (size === 0) return;
    const crc = this.#base64(payload, "payload");
    if (crc.length !== crcBytes) throw this.#damaged("a checksum that is none");
    this.#handler.file(this.#name(name, name_raw), size as number, crc);
  }

  #name(name: unknown, raw: unknown): ByteString {
    if (typeof raw === "string" && raw !== "") return this.#base64(raw, "name_raw").toString("latin1");
    if (typeof name !== "string") throw this.#damaged("a file without a name");
    return Buffer.from(name, "utf8").toString("latin1");
  }

  #base64(value: unknown, what: string): Buffer {
    if (value === null) return Buffer.alloc(0);
    if (typeof value !== "string") throw this.#damaged(`no ${what}`);
    const bytes = Buffer.from(value, "base64");
    // Node passes over what is not base64; Go, which wrote it, writes the padded form and nothing else.
    if (Math.ceil(bytes.length / 3) * 4 !== value.length) throw this.#damaged(`a ${what} that is not base64`);
    return bytes;
  }

  #damaged(what: string, cause?: unknown): LamellaError {
    return new LamellaError("data_loss", "TAR_SPLIT_DAMAGED", `line ${this.#line + 1}: ${what}`, { cause });
  }
}

/** Writes a tar-split: lines go to `write` as they are complete. */
export class TarSplitEncoder {
  readonly #write: (line: Buffer) => void;
  readonly #segment = Buffer.allocUnsafe(maxSegmentBytes);
  #filled = 0;
  #position = 0;

  constructor(write: (line: Buffer) => void) {
    this.#write = write;
  }

  /** Bytes of the tar that are no content of a file, or whose file is not there to be read. */
  segment(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + maxSegmentBytes - this.#filled);
      this.#segment.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === maxSegmentBytes) this.#flush();
    }
  }

  /** The content of the file `name` comes next. Each name once, and no empty file. */
  file(name: ByteString, sizeBytes: number, crc: Buffer): void {
    this.#flush();
    const bytes = Buffer.from(name, "latin1");
    const names = isUtf8(bytes) ? { name: bytes.toString("utf8") } : { name_raw: bytes.toString("base64") };
    this.#line({ type: fileType, ...names, size: sizeBytes, payload: crc.toString("base64") });
  }

  /** Writes what is left. */
  end(): void {
    this.#flush();
  }

  #flush(): void {
    if (this.#filled === 0) return;
    const payload = this.#segment.toString("base64", 0, this.#filled);
    this.#filled = 0;
    this.#line({ type: segmentType, payload });
  }

  #line(entry: Readonly<Record<string, string | number>>): void {
    this.#write(Buffer.concat([encodeJson({ ...entry, position: this.#position++ }), Buffer.from([newline])]));
  }
}
