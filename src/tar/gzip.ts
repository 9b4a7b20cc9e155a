/**
 * gzip through node:zlib, whose work runs on libuv's threads. zlib reads all members of a stream and refuses what follows
 * the last one unless it starts with a zero byte; there it stops looking. Here everything after that zero must be zero too
 * (padding, as tapes and some registries add), so that no data is dropped unseen.
 */
import { constants, createGunzip, createGzip, type Gunzip, type Gzip } from "node:zlib";
import { throwIfAborted } from "../errors/lamella-error.ts";
import { corruptStream, truncatedStream } from "./compression-error.ts";

const outputBytes = 256 * 1024;

/** Decodes all members of a gzip stream. */
export function gunzip(source: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  return through({ source, signal, codec: createGunzip({ chunkSize: outputBytes }) });
}

/**
 * Encodes one gzip member. Its header holds no name and no time, so that the same bytes come out whenever it runs; another
 * version of zlib may still compress differently.
 */
export function gzip(
  source: AsyncIterable<Uint8Array>,
  options: { readonly level?: number | undefined; readonly signal?: AbortSignal | undefined },
): AsyncIterable<Uint8Array> {
  const level = options.level ?? constants.Z_DEFAULT_COMPRESSION;
  return through({
    source,
    signal: options.signal,
    codec: createGzip({ level, memLevel: 9, chunkSize: outputBytes }),
  });
}

interface Passage {
  readonly source: AsyncIterable<Uint8Array>;
  readonly codec: Gunzip | Gzip;
  readonly signal: AbortSignal | undefined;
}

/** What `source` becomes in `codec`. The source is read to its end, and its errors come through as they are. */
async function* through(passage: Passage): AsyncGenerator<Uint8Array> {
  const { codec } = passage;
  const failures: unknown[] = [];
  const feeding = feed(passage).catch((error: unknown) => {
    failures.push(error);
    codec.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    yield* codec as AsyncIterable<Uint8Array>;
    await feeding;
  } catch (error) {
    failures.push(error);
  } finally {
    // Leaving early: the pending write answers at once and the source is told to stop.
    codec.destroy();
    await feeding;
  }
  if (failures.length > 0) throw ofZlib(failures[0]);
}

async function feed({ source, codec, signal }: Passage): Promise<void> {
  // A write that fails, or that is under way when the codec is destroyed, never answers: closing answers for it.
  let answer: (() => void) | undefined;
  codec.once("close", () => answer?.());
  const write = (chunk: Uint8Array) =>
    new Promise<void>((resolve) => {
      answer = resolve;
      codec.write(chunk, () => resolve());
    });
  let fed = 0;
  let isPadding = false;
  for await (const chunk of source) {
    throwIfAborted(signal);
    if (codec.destroyed) return;
    if (isPadding) {
      checkPadding(chunk);
      continue;
    }
    fed += chunk.length;
    await write(chunk);
    if (codec.bytesWritten < fed && !codec.destroyed) {
      isPadding = true;
      checkPadding(chunk.subarray(chunk.length - (fed - codec.bytesWritten)));
    }
  }
  codec.end();
}

function checkPadding(bytes: Uint8Array): void {
  if (bytes.some((byte) => byte !== 0)) throw corruptStream("gzip", "data after the end");
}

function ofZlib(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return error;
  if (error.code === "Z_BUF_ERROR") return truncatedStream("gzip");
  return /^Z_/.test(error.code) ? corruptStream("gzip", error.message, error) : error;
}
