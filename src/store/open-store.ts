/** Opening and closing a store. */
import { realpathSync } from "node:fs";
import { openDriver } from "../drivers/open-driver.ts";
import { makeDirectories } from "../fs/make-directories.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { noteUsedCacheRows } from "./cache.ts";
import { tryLock, waitFor } from "./chain-lock.ts";
import { StoreContext } from "./context.ts";
import { Holds } from "./holds.ts";
import { StorePaths } from "./paths.ts";
import { reclaimAtStart } from "./reclaim.ts";
import type { StoreOptions } from "./requests.ts";
import type { Staging } from "./staging.ts";
import { MetaEnvironment, Tables } from "./tables.ts";

/** Opens (or makes) a store. See `Store.open`. */
export async function openStore(options: StoreOptions): Promise<StoreContext> {
  const { driver: name, driverOptions, durable = true, signal } = options;
  makeDirectories(options.root, 0o710);
  const root = realpathSync(options.root);
  const driver = await openDriver({ root: bytesOfText(root), name, options: driverOptions ?? {} });
  const paths = new StorePaths(root, driver.name);
  paths.make();
  const meta = new MetaEnvironment(paths.meta, { durable });
  try {
    const tables = new Tables(meta, driver.name);
    using _startLock = await waitFor(() => tryLock(`${paths.locks}/start`), signal);
    const holds = new Holds(paths.locks);
    try {
      const store = new StoreContext({ paths, driver, tables, holds, durable });
      await reclaimAtStart(store);
      return store;
    } catch (error) {
      holds[Symbol.dispose]();
      throw error;
    }
  } catch (error) {
    await meta[Symbol.asyncDispose]();
    throw error;
  }
}

/** Discards what was staged and not published, writes what was put off, gives up all claims. Idempotent. */
export async function closeStore(store: StoreContext, staging: Staging): Promise<void> {
  if (store.isClosed) return;
  store.isClosed = true;
  const { tables, holds } = store;
  try {
    await staging.discardAll();
    if (store.usedCacheKeys.size > 0) tables.meta.write(() => noteUsedCacheRows(store, new Date().toISOString()));
    await store.driver.rest();
    removeTree(bytesOfText(store.temporaryDirectory));
    holds[Symbol.dispose]();
  } finally {
    await tables.meta[Symbol.asyncDispose]();
  }
}
