/** What the parts of one open store share, and the few operations all of them need. */
import { rmSync } from "node:fs";
import type { Driver, LayerId } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { bytesOfText } from "../lib/bytes.ts";
import type { ChainId } from "../oci/digest.ts";
import { emit } from "./channels.ts";
import type { Holds } from "./holds.ts";
import type { StorePaths } from "./paths.ts";
import type { Tables } from "./tables.ts";
import type { LayerRecord } from "./types.ts";

export class StoreContext {
  readonly paths: StorePaths;
  readonly driver: Driver;
  readonly tables: Tables;
  readonly holds: Holds;
  readonly durable: boolean;
  /** Cache keys used since rows were last written; the next transaction notes the time. */
  readonly usedCacheKeys = new Set<string>();
  isClosed = false;
  #temporaries = 0;

  constructor(parts: {
    readonly paths: StorePaths;
    readonly driver: Driver;
    readonly tables: Tables;
    readonly holds: Holds;
    readonly durable: boolean;
  }) {
    this.paths = parts.paths;
    this.driver = parts.driver;
    this.tables = parts.tables;
    this.holds = parts.holds;
    this.durable = parts.durable;
  }

  /** Directory of this process's temporary files; its name tells the next start whose they are. */
  get temporaryDirectory(): string {
    return `${this.paths.temporary}/${this.holds.owner}`;
  }

  /** A new name for a temporary file. */
  temporaryPath(what: string): string {
    return `${this.temporaryDirectory}/${what}-${this.#temporaries++}`;
  }

  /**
   * Keeps a published layer from being removed: in one step for all processes, says that it is needed and sees that it is
   * there. Undefined when it is not.
   */
  holdPublished(find: () => LayerRecord | undefined): LayerRecord | undefined {
    return this.tables.meta.write(() => {
      const record = find();
      if (record !== undefined) this.holds.holdLayer(record.layerId);
      return record;
    });
  }

  /** The same by chain ID. */
  holdChain(chainId: ChainId): LayerRecord | undefined {
    return this.holdPublished(() => this.tables.layers.get(chainId));
  }

  /** Deletes what a layer has on disk: in the driver, its tar record, its spilled contents. Idempotent. */
  async deleteLayer(layerId: LayerId, chainId?: ChainId): Promise<void> {
    await this.driver.unmountAll(layerId);
    await this.driver.remove(layerId);
    this.deleteRecord(layerId);
    emit("remove", { chainId, layerId });
  }

  /** Deletes a layer's tar record and spilled contents. Idempotent. */
  deleteRecord(layerId: LayerId): void {
    rmSync(this.paths.record(layerId), { force: true });
    removeTree(bytesOfText(this.paths.spill(layerId)));
  }

  /** Refuses a stack the driver cannot mount. */
  checkDepth(depth: number): void {
    const { maxDepth } = this.driver.capabilities;
    if (depth <= maxDepth) return;
    throw new LamellaError(
      "failed_precondition",
      "DEPTH",
      `a stack of ${depth} layers is more than the driver ${this.driver.name} mounts (${maxDepth})`,
      { hint: "flatten the image (`lamella import` of its root file system), or use another driver" },
    );
  }
}
