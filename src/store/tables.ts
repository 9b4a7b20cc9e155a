/**
 * The store's tables in LMDB, values in JSON. One environment (<root>/meta), for each driver its own tables, so that the
 * images of one driver do not hide or break those of another:
 *
 *   state                 "driver" → name last used      "boot:<driver>" → boot ID of the last full sweep   "format" → 1
 *   <driver>/layers       chain ID   → LayerRecord
 *   <driver>/layer-ids    layer ID   → chain ID          the same relation from the driver's side
 *   <driver>/images       config digest → ImageRecord
 *   <driver>/tags         "name:tag" → config digest
 *   <driver>/containers   container ID → ContainerRecord
 *   <driver>/cache        cache key  → BuildCacheRecord
 *
 * Transactions are synchronous: they run under LMDB's writer lock, which all processes share and which a dying process
 * gives up, so a transaction's reads and writes are one step for everybody. One that writes nothing costs no flush; it
 * serves as a critical section between processes (holds.ts). Between transactions another process may have written:
 * `fresh` renews the snapshot that plain reads see.
 */
import { createRequire } from "node:module";
import type { Database, RootDatabase } from "lmdb";
import type { LayerId } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import type { ChainId, Digest } from "../oci/digest.ts";
import type { BuildCacheRecord, ContainerRecord, ImageRecord, LayerRecord } from "./types.ts";

/** Version of the layout on disk; another one is refused. */
const formatVersion = 1;

/** The CommonJS build loads 10 ms faster than the ES modules, and only when a store is opened. */
const require = createRequire(import.meta.url);

/** The open environment and what is known before a driver is chosen. */
export class MetaEnvironment implements AsyncDisposable {
  readonly #env: RootDatabase<unknown, string>;
  readonly #tables = new Map<string, Database<unknown, string>>();
  readonly state: Database<string | number, string>;

  constructor(path: string, options: { readonly durable: boolean }) {
    const { open } = require("lmdb") as typeof import("lmdb");
    this.#env = open<unknown, string>({
      path,
      noSubdir: false,
      maxDbs: 64,
      mapSize: 2 ** 30,
      encoding: "json",
      cache: false,
      overlappingSync: false,
      noSync: !options.durable,
    });
    this.state = this.#env.openDB<string | number, string>({ name: "state", encoding: "json" });
    const format = this.state.get("format");
    if (format === undefined) this.write(() => this.state.putSync("format", formatVersion));
    else if (format !== formatVersion) {
      throw new LamellaError("failed_precondition", "STORE_FORMAT", `${path}: layout version ${format}`, {
        hint: `this version of Lamella reads layout ${formatVersion}; use the version that wrote it, or another root`,
      });
    }
  }

  /** Opens (or makes) a table; once for each name. */
  table<V>(name: string): Database<V, string> {
    const open = this.#tables.get(name) ?? this.#env.openDB<unknown, string>({ name, encoding: "json", cache: false });
    this.#tables.set(name, open);
    return open as Database<V, string>;
  }

  /** Runs `work` as one transaction that is durable when it returns. What it throws undoes it. */
  write<T>(work: () => T): T {
    return this.#env.transactionSync(work);
  }

  /** Makes the following reads see what other processes have committed. */
  fresh(): void {
    this.#env.resetReadTxn();
  }

  /** Frees reader slots of processes that died. */
  dropDeadReaders(): void {
    this.#env.readerCheck();
  }

  /** The drivers that have tables here. */
  drivers(): string[] {
    const names = [...this.#env.getKeys({})].map(String);
    return names.flatMap((name) => (name.endsWith("/layers") ? [name.slice(0, -"/layers".length)] : []));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#env.close();
  }
}

/** The tables of one driver. */
export class Tables {
  readonly meta: MetaEnvironment;
  readonly layers: Database<LayerRecord, string>;
  readonly layerIds: Database<ChainId, string>;
  readonly imageRows: Database<ImageRecord, string>;
  readonly tags: Database<Digest, string>;
  readonly containerRows: Database<ContainerRecord, string>;
  readonly cache: Database<BuildCacheRecord, string>;

  constructor(meta: MetaEnvironment, driver: string) {
    this.meta = meta;
    this.layers = meta.table(`${driver}/layers`);
    this.layerIds = meta.table(`${driver}/layer-ids`);
    this.imageRows = meta.table(`${driver}/images`);
    this.tags = meta.table(`${driver}/tags`);
    this.containerRows = meta.table(`${driver}/containers`);
    this.cache = meta.table(`${driver}/cache`);
  }

  putLayer(record: LayerRecord): void {
    this.layers.putSync(record.chainId, record);
    this.layerIds.putSync(record.layerId, record.chainId);
  }

  removeLayer(record: LayerRecord): void {
    this.layers.removeSync(record.chainId);
    this.layerIds.removeSync(record.layerId);
  }

  /** The published layer that the driver knows under `layerId`. */
  layerOfId(layerId: LayerId): LayerRecord | undefined {
    const chainId = this.layerIds.get(layerId);
    return chainId === undefined ? undefined : this.layers.get(chainId);
  }

  /** The layers of a chain, the base first. Errors: not_found; data_loss when one below the top has no record. */
  chain(chainId: ChainId | undefined): LayerRecord[] {
    const chain: LayerRecord[] = [];
    for (let at = chainId; at !== undefined; ) {
      const record = this.layers.get(at);
      if (record === undefined) throw missingLayer(at, chainId);
      chain.push(record);
      at = record.parent;
    }
    return chain.reverse();
  }
}

/** All values of a table. */
export function valuesOf<V>(table: Database<V, string>): V[] {
  return [...table.getRange()].map(({ value }) => value);
}

/** All rows of a table, in key order. */
export function rowsOf<V>(table: Database<V, string>): [key: string, value: V][] {
  return [...table.getRange()].map(({ key, value }) => [key, value]);
}

function missingLayer(at: ChainId, top: ChainId | undefined): LamellaError {
  if (at === top) return new LamellaError("not_found", "NO_SUCH_LAYER", `no layer ${at} in the store`);
  return new LamellaError("data_loss", "LAYER_MISSING", `layer ${at}, which ${top} stands on, is missing`, {
    hint: "run `lamella check`, then load or build the image again",
  });
}
