/** The jobs of the diff worker: read a source's changes, either to export them as a layer tar or to list them. */
import { createHash } from "node:crypto";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import { open, writeAll } from "../sys/syscalls.ts";
import type { Change } from "./change.ts";
import { type LayerCounts, type OwnerOffset, writeLayerTar } from "./layer-tar.ts";
import type { DiffSource } from "./source.ts";
import { TarRecordWriter } from "./tar-record.ts";
import { TreesDiffer } from "./trees-differ.ts";
import { UpperDiffer } from "./upper-differ.ts";

export interface ExportJob {
  readonly kind: "export";
  readonly source: DiffSource;
  /** Where the record that reproduces the tar is written; none when undefined. */
  readonly recordPath: ByteString | undefined;
  /** Where the tar itself is written; nowhere when undefined. */
  readonly tarPath: ByteString | undefined;
  readonly clampMtimeSec: number | undefined;
  readonly ownerOffset: OwnerOffset | undefined;
}

export interface ListJob {
  readonly kind: "list";
  readonly source: DiffSource;
}

export type DiffJob = ExportJob | ListJob;

/** What the export of a layer gave. */
export interface ExportResult extends LayerCounts {
  /** SHA-256 of the tar, 64 hexadecimal digits. */
  readonly sha256: string;
  readonly tarSizeBytes: number;
  /** Directory entries that were looked at. */
  readonly visited: number;
  /** Why two trees were compared whole though the driver knows of a shorter way; undefined when they were not. */
  readonly doubt: string | undefined;
  readonly durationMs: number;
}

/** What the list of a source's changes gave. */
export interface ListResult {
  readonly changes: readonly ListedChange[];
  /** As in {@link ExportResult}. */
  readonly doubt: string | undefined;
}

/** One line of `docker diff`: added, changed or deleted, and the absolute path. */
export interface ListedChange {
  readonly kind: "A" | "C" | "D";
  readonly path: ByteString;
}

/** A reader of a source: one stream of changes, and how much it looked at. */
interface Differ {
  changes(): Iterable<Change>;
  readonly visited: number;
  readonly doubt?: string | undefined;
}

/** The reader of a source. `expandOpaque`: see UpperDifferOptions. */
export function differOf(source: DiffSource, expandOpaque: boolean, throwIfCanceled: () => void): Differ {
  return source.kind === "upper"
    ? new UpperDiffer(source, { expandOpaque })
    : new TreesDiffer(source, { throwIfCanceled });
}

/** Writes the tar of a source's changes to wherever the job says, and hashes it. Synchronous. */
export function exportChanges(job: ExportJob, throwIfCanceled: () => void): ExportResult {
  const started = performance.now();
  const differ = differOf(job.source, false, throwIfCanceled);
  const hash = createHash("sha256");
  let tarSizeBytes = 0;
  using tar = job.tarPath === undefined ? undefined : open(job.tarPath, C.O_WRONLY | C.O_CREAT | C.O_TRUNC, 0o600);
  using record = job.recordPath === undefined ? undefined : new TarRecordWriter(job.recordPath);
  const bytes = (chunk: Uint8Array): void => {
    tarSizeBytes += chunk.length;
    hash.update(chunk);
    if (tar) writeAll(tar.fd, chunk);
  };
  const counts = writeLayerTar(
    differ.changes(),
    {
      raw: (chunk) => {
        bytes(chunk);
        record?.raw(chunk);
      },
      file: (path, sizeBytes) => record?.file(path, sizeBytes),
      data: bytes,
    },
    { clampMtimeSec: job.clampMtimeSec, ownerOffset: job.ownerOffset, throwIfCanceled },
  );
  record?.close();
  return {
    ...counts,
    sha256: hash.digest("hex"),
    tarSizeBytes,
    visited: differ.visited,
    doubt: differ.doubt,
    durationMs: performance.now() - started,
  };
}

/** The changes of a source as `docker diff` lists them, in the stream's order. */
export function listSource(source: DiffSource, throwIfCanceled: () => void): ListResult {
  const letters = { added: "A", modified: "C", deleted: "D" } as const;
  const differ = differOf(source, true, throwIfCanceled);
  const changes: ListedChange[] = [];
  for (const change of differ.changes()) {
    throwIfCanceled();
    if (change.kind !== "opaque" && change.path !== "")
      changes.push({ kind: letters[change.kind], path: `/${change.path}` });
  }
  return { changes, doubt: differ.doubt };
}
