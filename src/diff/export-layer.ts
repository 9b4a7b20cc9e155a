/**
 * Exports a layer: reads its changes where its driver says they are, writes them as a layer tar, hashes that. Runs in worker
 * threads; nothing is written but the files the caller names, which are left incomplete when the export fails.
 */
import { type Channel, channel } from "node:diagnostics_channel";
import { availableParallelism } from "node:os";
import { WorkerPool, workerUrl } from "../fs/worker-pool.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { type DiffId, parseDiffId } from "../oci/digest.ts";
import type { DiffJob, ExportResult, ListedChange, ListResult } from "./export-job.ts";
import type { OwnerOffset } from "./layer-tar.ts";
import type { DiffSource } from "./source.ts";

export type { ListedChange } from "./export-job.ts";

const pool = new WorkerPool<DiffJob, ExportResult | ListResult>(
  workerUrl(import.meta.url, "./export-worker"),
  Math.max(2, availableParallelism()),
);

/** Gets a {@link DoubtEvent} for each diff that had to go the long way. */
export const doubtChannel: Channel = channel("lamella:diff:doubt");

export interface DoubtEvent {
  /** Why two trees were compared whole though the driver knows of a shorter way. */
  readonly reason: string;
}

function tellDoubt(reason: string | undefined): void {
  if (reason !== undefined && doubtChannel.hasSubscribers) doubtChannel.publish({ reason } satisfies DoubtEvent);
}

export interface ExportLayerOptions {
  readonly source: DiffSource;
  /** Path of the file that gets the record from which the exact tar can be made again (docs/formats/tar-record.md). */
  readonly recordPath?: string | undefined;
  /** Path of the file that gets the tar itself. */
  readonly tarPath?: string | undefined;
  /** Later times are written as this many seconds since 1970. */
  readonly clampMtimeSec?: number | undefined;
  /** The layer's owners on disk are those of a user namespace, which begins there. */
  readonly ownerOffset?: OwnerOffset | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ExportedLayer extends Omit<ExportResult, "sha256"> {
  readonly diffId: DiffId;
}

/** Starts the threads that export layers, so that the first export does not wait for them. */
export function warmExport(): void {
  pool.warm(1);
}

/** Exports one layer. Errors: those of the differ (`INEXPRESSIBLE_NAME`), SyscallError, canceled. */
export async function exportLayer(options: ExportLayerOptions): Promise<ExportedLayer> {
  const { source, recordPath, tarPath, clampMtimeSec, ownerOffset, signal } = options;
  const job: DiffJob = {
    kind: "export",
    source,
    recordPath: recordPath === undefined ? undefined : bytesOfText(recordPath),
    tarPath: tarPath === undefined ? undefined : bytesOfText(tarPath),
    clampMtimeSec,
    ownerOffset,
  };
  const { sha256, ...rest } = (await pool.run(job, { signal })) as ExportResult;
  tellDoubt(rest.doubt);
  return { ...rest, diffId: parseDiffId(`sha256:${sha256}`) };
}

/** Lists the changes of a source as `docker diff` does, replaced directories taken apart. Errors: as exportLayer. */
export async function listChanges(source: DiffSource, signal?: AbortSignal): Promise<readonly ListedChange[]> {
  const { changes, doubt } = (await pool.run({ kind: "list", source }, { signal })) as ListResult;
  tellDoubt(doubt);
  return changes;
}
