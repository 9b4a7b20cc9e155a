/**
 * Fills a store, moves it, gives the move up, moves it again and ends it, and sees each time what is there; on some ways the
 * first move is killed. A process of its own, as the mounts of a test are not seen by all threads of the process that made
 * them. It is sent one {@link Journey} after the other, and answers each with what went wrong, or an empty string.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chosenDriver } from "../../src/drivers/migration-record.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { finishMigration, undoMigration } from "../../src/migrate/finish.ts";
import type { MigrationReport } from "../../src/migrate/report.ts";
import { migrateToDriver } from "../../src/migrate/to-driver.ts";
import type { Store } from "../../src/store/store.ts";
import {
  change,
  type DriverOptions,
  factsOf,
  fillStore,
  openAt,
  type StoreFacts,
  sharedBaseBytes,
} from "../support/migrate-lab.ts";

const mover = fileURLToPath(new URL("../fault/migrate-child.ts", import.meta.url));

export interface Journey {
  readonly from: string;
  readonly to: string;
  readonly root: string;
  /** Where the data goes; undefined: the same root. */
  readonly toRoot?: string | undefined;
  /** How the large files of the base lie under the new driver. */
  readonly shares: "links" | "clones" | "nothing";
  /** The first move is killed when the containers are there, and then goes on. */
  readonly killed: boolean;
  /** Of a driver that is not to be opened without. */
  readonly driverOptions?: Readonly<Record<string, DriverOptions>>;
  /** The file system keeps no fractions of a second where it is asked to. */
  readonly wholeSeconds: boolean;
}

/** With `driver` undefined, the one that counts. */
async function open({ from, to, driverOptions = {} }: Journey, root: string, driver?: string): Promise<Store> {
  const name = driver ?? chosenDriver(bytesOfText(root)) ?? (existsSync(join(root, from)) ? from : to);
  return openAt(root, driver, driverOptions[name]);
}

async function facts(journey: Journey, root: string, driver?: string): Promise<StoreFacts> {
  await using store = await open(journey, root, driver);
  return await factsOf(store, { wholeSeconds: journey.wholeSeconds });
}

async function move(journey: Journey): Promise<MigrationReport> {
  const { from, to, root, toRoot, driverOptions = {} } = journey;
  await using store = await open(journey, root, from);
  return await migrateToDriver(store, { driver: to, root: toRoot, driverOptions: driverOptions[to] });
}

/** Kills a move almost at its end, and changes all kinds of things under the old driver, which counts. */
async function cutShort(journey: Journey): Promise<void> {
  const { from, to, root, toRoot } = journey;
  {
    await using store = await open(journey, root, from);
    await store.commitContainer("box", { tags: ["app:gone"] });
    await store.createContainer({ image: "app:1", name: "gone" });
  }
  const before = await facts(journey, root);
  const words = ["driver", root, to, "container box done", ...(toRoot === undefined ? [] : [toRoot])];
  const { signal, stderr } = spawnSync(process.execPath, [...process.execArgv, mover, ...words], { encoding: "utf8" });
  assert.equal(signal, "SIGKILL", stderr);
  assert.deepEqual(await facts(journey, root), before);
  await facts(journey, toRoot ?? root, to);
  await using store = await open(journey, root);
  assert.equal(store.driver.name, from);
  await change(store, "box", "printf later > etc/keep; rm added-again");
  await store.removeContainer("gone");
  await store.removeImage("app:gone");
  store.tag("app:1", "app:latest");
  store.untag("app:2");
}

async function travel(journey: Journey): Promise<void> {
  const { from, to, root, toRoot, shares, driverOptions = {} } = journey;
  const newRoot = toRoot ?? root;
  {
    await using store = await open(journey, root, from);
    await fillStore(store);
  }
  if (journey.killed) await cutShort(journey);
  const before = await facts(journey, root);

  // Everything is there, and so is the old data.
  const { leftOut, images, containers, layers } = await move(journey);
  assert.deepEqual(leftOut, []);
  assert.deepEqual([images.length, containers.length, layers.made], [2, 1, journey.killed ? 0 : 2]);
  assert.deepEqual(await facts(journey, newRoot, to), before);
  assert.deepEqual(await facts(journey, root, from), before);

  // Given up, the old driver counts and nothing is left of the new.
  assert.deepEqual(await undoMigration({ root, driverOptions: driverOptions[to] }), {
    removed: { driver: to, root: newRoot, images: 2, layers: 2 },
    kept: { driver: from, root },
  });
  for (const path of [to, `records/${to}`]) assert.equal(existsSync(join(newRoot, path)), false, path);
  assert.deepEqual(await facts(journey, root), before);

  // Again, and to the end: the new data stands by itself, and is worked on.
  const again = (await move(journey)).layers;
  assert.equal(again.made, 2);
  if (shares === "nothing") assert.equal(again.sharedBytes, 0);
  else assert.ok(again.sharedBytes >= sharedBaseBytes, `${again.sharedBytes} bytes are shared`);
  assert.equal((await move(journey)).layers.made, 0);
  assert.deepEqual((await finishMigration({ root, driverOptions: driverOptions[from] })).removed, {
    driver: from,
    root,
    images: 2,
    layers: 2,
  });
  for (const path of [from, `records/${from}`, "migration.json"])
    assert.equal(existsSync(join(root, path)), false, path);
  assert.deepEqual(await facts(journey, newRoot), before);
  await using store = await openAt(newRoot, undefined, driverOptions[to]);
  assert.equal(store.driver.name, to);
  await change(store, "box", "printf again > etc/keep; rm added");
  await store.commitContainer("box", { tags: ["app:3"] });
  assert.deepEqual((await store.check({ deep: true })).findings, []);
}

process.on("message", (journey: Journey) => {
  travel(journey)
    .then(() => process.send?.(""))
    .catch((error: Error) => process.send?.(error.stack));
});
