/**
 * A layer's exact tar out of Docker's root, and the tar-split with which Docker makes the same tar of a tree that Lamella
 * wrote. The loops run in worker threads.
 */
import { availableParallelism } from "node:os";
import type { TarSource } from "../../diff/tar-record-job.ts";
import { receivePieces } from "../../fs/pieces.ts";
import { WorkerPool, workerUrl } from "../../fs/worker-pool.ts";
import type { ReadSplitJob, WriteSplitJob, WrittenSplit } from "./tar-split-jobs.ts";

const pool = new WorkerPool<ReadSplitJob | WriteSplitJob, WrittenSplit | undefined, Uint8Array>(
  workerUrl(import.meta.url, "./tar-split-worker"),
  Math.max(2, availableParallelism()),
);

/**
 * The bytes of the tar that `splitPath` (beneath `root`) describes. Every file's CRC-64 is checked; whether the whole is the
 * layer's tar only its diff ID tells, which is for the reader to verify. Errors: data_loss that names the file or the line.
 */
export function readSplitTar(
  source: Omit<ReadSplitJob, "kind" | "credit">,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  return receivePieces((credit, options) => pool.run({ ...source, kind: "read", credit }, options), signal);
}

/**
 * Writes the tar-split of a layer to the new file `splitPath`, made from the layer's tar record and verified against its
 * digest. Errors: data_loss, as reading the layer's tar does.
 */
export async function writeTarSplit(
  source: TarSource & { readonly splitPath: string },
  signal: AbortSignal | undefined,
): Promise<WrittenSplit> {
  return (await pool.run({ ...source, kind: "write" }, { signal })) as WrittenSplit;
}
