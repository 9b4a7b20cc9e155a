/**
 * A container's writable layer: its changes are exported to a file, and applied to a new writable layer on the same image in
 * the store. ID, name and time stay.
 */
import { rmSync } from "node:fs";
import { applyLayer } from "../diff/apply-layer.ts";
import { exportLayer } from "../diff/export-layer.ts";
import type { OwnerOffset } from "../diff/layer-tar.ts";
import type { DiffSource } from "../diff/source.ts";
import { isLamellaError, LamellaError } from "../errors/lamella-error.ts";
import type { ByteString } from "../lib/bytes.ts";
import type { Store } from "../store/store.ts";
import type { ContainerRecord, LayerRecord } from "../store/types.ts";

export interface ContainerToMove {
  readonly changes: DiffSource;
  readonly ownerOffset?: OwnerOffset | undefined;
  /** Where its files can be cloned from. */
  readonly directory: ByteString;
  readonly container: Omit<ContainerRecord, "layerId" | "chainId">;
  /** The layer of the store that it stands on. */
  readonly parent: LayerRecord | undefined;
}

/** Moves a container into a store that has its image and layers. A name that is taken there is given up: see the answer. */
export async function moveContainer(
  store: Store,
  { changes, ownerOffset, directory, container, parent }: ContainerToMove,
  signal: AbortSignal | undefined,
): Promise<ContainerRecord> {
  const tarPath = store.temporaryFile("container");
  const active = await store.beginLayer(parent);
  try {
    const exported = await exportLayer({ source: changes, tarPath, ownerOffset, signal });
    {
      await using target = await store.driver.applyTarget(active.layerId);
      const applied = await applyLayer({
        target: target.value,
        tar: { file: tarPath, offset: 0, length: exported.tarSizeBytes },
        donor: { directory, link: false },
        recordPath: `${tarPath}.record`,
        spillDir: `${tarPath}.spill`,
        signal,
      });
      if (applied.diffId !== exported.diffId) throw changedMeanwhile(container.id);
    }
    const adopted = { ...container, chainId: parent?.chainId };
    try {
      return await store.adoptContainer(active, adopted);
    } catch (error) {
      if (!isLamellaError(error) || error.code !== "CONTAINER_NAME_TAKEN") throw error;
      return await store.adoptContainer(active, { ...adopted, name: undefined });
    }
  } catch (error) {
    await store.discardLayer(active);
    throw error;
  } finally {
    for (const path of [tarPath, `${tarPath}.record`]) rmSync(path, { force: true });
  }
}

function changedMeanwhile(id: string): LamellaError {
  return new LamellaError("data_loss", "FILE_CHANGED", `the changes of container ${id} were altered on their way`);
}
