/**
 * The build cache: rows that say which chain a build step gave. A row keeps its chain alive. `gc` drops rows by age, so
 * using a row must note when; that is not worth a flush each, so the times go into the next transaction that is made
 * anyhow, or one when the store closes, and only when the row's time is an hour old.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { digestOf } from "../oci/digest.ts";
import type { StoreContext } from "./context.ts";
import type { BuildCacheRecord } from "./types.ts";

/** LMDB's keys are shorter than 2 KiB. */
const longestKey = 512;
const resolutionMs = 3_600_000;

/** The key of a row: the text itself, or its digest where it is long. */
export function cacheRowKey(key: string): string {
  if (key === "") throw new LamellaError("invalid_argument", "CACHE_KEY", "a cache key is empty");
  return Buffer.byteLength(key) <= longestKey ? key : digestOf(key);
}

/** See `Store.cacheGet`. */
export function cacheGet(store: StoreContext, key: string): BuildCacheRecord | undefined {
  const { tables } = store;
  const rowKey = cacheRowKey(key);
  tables.meta.fresh();
  const row = tables.cache.get(rowKey);
  if (row === undefined) return undefined;
  if (row.chainId !== undefined && !tables.layers.doesExist(row.chainId)) return undefined;
  if (Date.now() - Date.parse(row.usedAt) > resolutionMs) store.usedCacheKeys.add(rowKey);
  return row;
}

/** Writes the times of rows used since the last call. Inside a transaction. */
export function noteUsedCacheRows(store: StoreContext, now: string): void {
  const { cache } = store.tables;
  for (const key of store.usedCacheKeys) {
    const row = cache.get(key);
    if (row !== undefined) cache.putSync(key, { ...row, usedAt: now });
  }
  store.usedCacheKeys.clear();
}
