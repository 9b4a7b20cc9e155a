/**
 * Makes the exact bytes of a layer tar again: headers, padding and order from its record, contents from the layer's files.
 * The work is done in a thread of its own; a few pieces are made ahead of the reader. Everything is verified on the way: a
 * file of another size, a stretch of the tar whose digest is not what was noted when the record was written, and in the end
 * the digest of the whole.
 */
import { availableParallelism } from "node:os";
import { receivePieces } from "../fs/pieces.ts";
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { type DiffId, hexOf } from "../oci/digest.ts";
import type { ContentSource } from "./source.ts";
import type { ReadJob } from "./tar-record-job.ts";

const pool = new WorkerPool<ReadJob, number, Uint8Array>(
  workerUrl(import.meta.url, "./tar-record-worker"),
  Math.max(2, availableParallelism()),
);

export interface ReadLayerTarOptions {
  readonly recordPath: string;
  /** Where contents lie that the layer itself replaced. */
  readonly spillDir: string;
  readonly content: ContentSource;
  /** The digest that the whole must have. */
  readonly diffId?: DiffId | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The bytes of the tar, in pieces that belong to the reader. Errors: data_loss for a file that is missing or has changed
 * (CONTENT_LOST names it), for a damaged record (RECORD_DAMAGED), for a digest that differs (DIGEST_MISMATCH); canceled.
 */
export async function* readLayerTar(options: ReadLayerTarOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const job: Omit<ReadJob, "credit"> = {
    recordPath: bytesOfText(options.recordPath),
    spillDir: bytesOfText(options.spillDir),
    content: options.content,
    sha256: options.diffId === undefined ? undefined : hexOf(options.diffId),
  };
  yield* receivePieces((credit, run) => pool.run({ ...job, credit }, run), options.signal);
}
