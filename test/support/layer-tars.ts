/** Streams of changes as layer tars, and such tars applied, in this thread and without a store. */
import { LayerApplier } from "../../src/diff/apply-applier.ts";
import type { Change } from "../../src/diff/change.ts";
import { writeLayerTar } from "../../src/diff/layer-tar.ts";
import type { ApplyTarget } from "../../src/diff/source.ts";
import { frameBytes } from "../../src/diff/tar-record-format.ts";
import { lowerMarks } from "../../src/overlayfs/layer-marks.ts";
import { LayerStack } from "../../src/overlayfs/layer-stack.ts";

export interface LayerTar {
  readonly bytes: Buffer;
  /** Paths of the objects in it that are not directories. */
  readonly objects: readonly string[];
}

/** Writes a stream of changes as a layer tar. */
export function layerTarOf(changes: Iterable<Change>): LayerTar {
  const chunks: Buffer[] = [];
  const objects: string[] = [];
  const noted = function* (): Generator<Change> {
    for (const change of changes) {
      if (change.kind === "added" || change.kind === "modified") objects.push(change.path);
      yield change;
    }
  };
  const keep = (bytes: Uint8Array): void => void chunks.push(Buffer.from(bytes));
  writeLayerTar(noted(), { raw: keep, file: () => undefined, data: keep });
  return { bytes: Buffer.concat(chunks), objects };
}

const frame = Buffer.alloc(frameBytes);

/** Applies a layer tar to `target`, in this thread. */
export function applyLayerTar(target: ApplyTarget, tar: LayerTar, spillDir: string): void {
  using applier = new LayerApplier({
    target,
    spillDir,
    record: { begin: () => frame, finish: () => undefined },
    openLower: () => LayerStack.open(target.lowers, lowerMarks(target)),
  });
  applier.push(tar.bytes);
  applier.end();
}
