/** The two jobs that apply a layer, each in a thread of its own: see ./apply-layer.ts. */
import { LamellaError } from "../errors/lamella-error.ts";
import type { JobContext } from "../fs/worker-pool.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { lowerMarks } from "../overlayfs/layer-marks.ts";
import { LayerStack } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import { open, pread64 } from "../sys/syscalls.ts";
import { type AppliedLayer, LayerApplier } from "./apply-applier.ts";
import type { ContentDonor } from "./apply-donor.ts";
import { Shared, type SharedMemory } from "./apply-shared.ts";
import type { ApplyTarget } from "./source.ts";
import { TarRecordFile } from "./tar-record.ts";
import { encodeMoves, type FrameKind, type FrameSink, frameBytes, frameKind, type Move } from "./tar-record-format.ts";
import { DigestMarks } from "./tar-record-marks.ts";

/** A tar that lies in a file, byte for byte. */
export interface TarInFile {
  readonly file: ByteString;
  readonly offset: number;
  readonly length: number;
}

interface Input {
  readonly memory: SharedMemory;
  /** Undefined: the tar comes through the shared memory. */
  readonly tarFile: TarInFile | undefined;
}

/** Writes the layer's objects into the target. */
export interface ApplyJob extends Input {
  readonly kind: "apply";
  readonly target: ApplyTarget;
  readonly spillDir: ByteString;
  readonly donor: ContentDonor | undefined;
}

/** Hashes the tar and writes its record. */
export interface RecordJob extends Input {
  readonly kind: "record";
  readonly recordPath: ByteString;
}

export interface RecordedTar {
  readonly sha256: string;
  readonly tarSizeBytes: number;
}

/** Posted for each slot of the shared tar that a thread has done with, and now and then for a file: bytes read so far. */
export interface ReadSoFar {
  readonly bytes: number;
}

const chunkBytes = 512 * 1024;

/** The tar from the start, in pieces; the view is valid until the next one is asked for. */
function* piecesOf(input: Input, shared: Shared, context: JobContext<ReadSoFar>): Generator<Buffer> {
  let bytes = 0;
  const { tarFile } = input;
  if (tarFile === undefined) {
    for (let index = 0; ; index++) {
      const slot = shared.take(index);
      if (slot === "end") return;
      context.throwIfCanceled();
      yield slot;
      bytes += slot.length;
      context.post({ bytes });
    }
  }
  using file = open(tarFile.file, C.O_RDONLY);
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  while (bytes < tarFile.length) {
    shared.throwIfStopped();
    context.throwIfCanceled();
    const wanted = Math.min(buffer.length, tarFile.length - bytes);
    const n = pread64(file.fd, buffer, wanted, tarFile.offset + bytes);
    if (n === 0) throw shortFile(tarFile, bytes);
    yield buffer.subarray(0, n);
    bytes += n;
    if (bytes % (16 * chunkBytes) < n || bytes === tarFile.length) context.post({ bytes });
  }
}

function shortFile(tarFile: TarInFile, bytes: number): LamellaError {
  const where = `${textOfBytes(tarFile.file)} from byte ${tarFile.offset}`;
  return new LamellaError("data_loss", "FILE_TRUNCATED", `${where}: ends after ${bytes} of ${tarFile.length} bytes`);
}

/** Runs the job that writes objects. A failure stops the recorder. */
export function runApply(job: ApplyJob, context: JobContext<ReadSoFar>): AppliedLayer {
  const shared = new Shared(job.memory);
  let index = 0;
  const record: FrameSink = {
    begin: () => shared.beginFrame(index),
    finish: (length) => shared.finishFrame(index++, frameKind.operations, length),
  };
  const openLower = (): LayerStack => {
    shared.awaitBase();
    return LayerStack.open(job.target.lowers, lowerMarks(job.target));
  };
  try {
    const { target, spillDir, donor } = job;
    using applier = new LayerApplier({ target, spillDir, donor, record, openLower });
    for (const piece of piecesOf(job, shared, context)) applier.push(piece);
    const applied = applier.end();
    sendMoves(applied.moves, shared, index);
    shared.endFrames();
    return applied;
  } catch (error) {
    shared.stop();
    throw error;
  }
}

function sendMoves(moves: readonly Move[], shared: Shared, firstIndex: number): void {
  const table = encodeMoves(moves);
  let index = firstIndex;
  for (let at = 0; at < table.length; at += frameBytes) {
    const length = table.copy(shared.beginFrame(index), 0, at, at + frameBytes);
    shared.finishFrame(index++, frameKind.moves, length);
  }
}

/** Runs the job that hashes the tar and writes the record. A failure stops the applier. */
export function runRecord(job: RecordJob, context: JobContext<ReadSoFar>): RecordedTar {
  const shared = new Shared(job.memory);
  try {
    using file = new TarRecordFile(job.recordPath);
    const marks = new DigestMarks();
    let index = 0;
    /** Writes the frames that are there; true when there will be no more. */
    const drain = (): boolean => {
      for (;;) {
        const frame = shared.peekFrame(index);
        if (frame === "end") return true;
        if (frame === undefined) return false;
        file.frame(frame.kind as FrameKind, frame.bytes);
        shared.releaseFrame(index++);
      }
    };
    for (const piece of piecesOf(job, shared, context)) {
      marks.update(piece);
      drain();
    }
    for (let bell = shared.bell; !drain(); bell = shared.bell) {
      context.throwIfCanceled();
      shared.awaitBell(bell);
    }
    const { sha256, table, bytes } = marks.end();
    if (table.length > 0) file.frame(frameKind.marks, table);
    file.close(bytes);
    return { sha256, tarSizeBytes: bytes };
  } catch (error) {
    shared.stop();
    throw error;
  }
}
