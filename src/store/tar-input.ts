/** From what a caller has (a path, a stream, compressed or not) to tar bytes that can be read. */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { LamellaError } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { systemZstd } from "../sys/zstd.ts";
import { type DetectedCompression, decompress, detectCompression, detectionBytes } from "../tar/index.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";

const chunkBytes = 512 * 1024;

/** `stream`, decompressed if its first bytes say that it is compressed. */
export function plainBytes(
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  return decompress(stream, { signal, zstd: systemZstd() });
}

/** An open file, or a pipe or terminal, and how its bytes are compressed. */
export interface OpenedInput extends Disposable {
  /** Path that names the open descriptor. */
  readonly file: sys.OwnedFd;
  readonly path: string;
  /** Undefined for what cannot be read twice. */
  readonly seekable: { readonly sizeBytes: number; readonly compression: DetectedCompression } | undefined;
}

/** Opens a file for reading. Errors: those of open; invalid_argument for a directory. */
export function openInput(path: string): OpenedInput {
  const file = sys.open(bytesOfText(path), C.O_RDONLY | C.O_NOCTTY);
  const stat = sys.fstat(file.fd);
  const type = stat.mode & C.S_IFMT;
  if (type === C.S_IFDIR) {
    file[Symbol.dispose]();
    throw new LamellaError("invalid_argument", "IS_DIRECTORY", `${path} is a directory`);
  }
  const opened = { file, path: `/proc/self/fd/${file.fd}`, [Symbol.dispose]: () => file[Symbol.dispose]() };
  if (type !== C.S_IFREG) return { ...opened, seekable: undefined };
  const head = Buffer.alloc(detectionBytes);
  const length = sys.pread64(file.fd, head, head.length, 0);
  return {
    ...opened,
    seekable: { sizeBytes: stat.size, compression: detectCompression(head.subarray(0, length)) },
  };
}

/** The bytes of an opened input from its start. */
export function streamInput(input: OpenedInput): AsyncIterable<Uint8Array> {
  return createReadStream(input.path, { highWaterMark: chunkBytes });
}

/** Writes a stream, decompressed, to a temporary file and opens that; its name is gone at once. */
export async function spool(
  store: StoreContext,
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<sys.OwnedFd> {
  const path = store.temporaryPath("spool");
  await mkdir(store.temporaryDirectory, { recursive: true, mode: 0o700 });
  try {
    await pipeline(
      plainBytes(stream, signal),
      createWriteStream(path, { flags: "wx", mode: 0o600, highWaterMark: chunkBytes }),
      signal === undefined ? {} : { signal },
    );
    failpoint("load.spooled");
    return sys.open(bytesOfText(path), C.O_RDONLY);
  } finally {
    sys.unlinkIfExists(C.AT_FDCWD, bytesOfText(path));
  }
}
