/**
 * kill -9 anywhere in a move: what was there is whole and counts, and the same command then goes on to the end without making
 * again what was made.
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { finishMigration } from "../../src/migrate/finish.ts";
import { migrateFromDocker } from "../../src/migrate/from-docker.ts";
import { migrateToDocker } from "../../src/migrate/to-docker.ts";
import { migrateToDriver } from "../../src/migrate/to-driver.ts";
import { Store } from "../../src/store/store.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { commitChange, makeTree } from "./store-fixtures.ts";

const child = fileURLToPath(new URL("./migrate-child.ts", import.meta.url));
const register = fileURLToPath(new URL("../register.mjs", import.meta.url));
const mounts = privateMounts();
const directory = mkdtempSync(join(tmpdir(), "lamella-migrate-crash-"));
after(() => execFileSync("rm", ["-rf", directory]));

/** Runs a move in a process of its own. Answers the point it died at, undefined when it ran to its end. */
function runChild(what: string, root: string, target: string, number: number): Promise<string | undefined> {
  const args = ["--import", register, child, what, root, target, String(number)];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { timeout: 120_000, killSignal: "SIGTERM" }, (error, stdout, stderr) => {
      if (error === null) resolve(undefined);
      else if (error.signal === "SIGKILL" && stdout !== "") resolve(stdout);
      else reject(new Error(stderr, { cause: error }));
    });
  });
}

async function open(root: string, driver?: string): Promise<Store> {
  return Store.open({ root, driver, durable: false });
}

/** Tags, containers and what they changed. */
async function stateOf(store: Store): Promise<string> {
  assert.deepEqual((await store.check({ deep: true })).findings, []);
  const tags = store.images().flatMap(({ tags }) => tags);
  return JSON.stringify([tags.sort(), store.containers().map(({ id, name }) => `${id} ${name}`)]);
}

/** Crashes at one point after the other, `step` apart, each in a copy of `root`; ends with the one that is not reached. */
async function* crashes(
  what: string,
  root: string,
  { target, step = 1 }: { readonly target: (copy: string) => string; readonly step?: number },
): AsyncGenerator<{ readonly point: string; readonly copy: string }> {
  let count = 0;
  for (let number = 1; ; number += step) {
    const copy = join(directory, `${what}-${number}`);
    execFileSync("cp", ["-a", root, copy]);
    const point = await runChild(what, copy, target(copy), number);
    if (point === undefined) break;
    count++;
    yield { point: `${number}: ${point}`, copy };
    execFileSync("rm", ["-rf", copy]);
  }
  assert.ok(count > 2, `${count} crashes`);
}

describe("killed while it moves", { skip: mounts === true ? undefined : mounts }, () => {
  const root = join(directory, "store");
  let state = "";

  before(async () => {
    await using store = await open(root, "overlay2");
    const tree = makeTree(join(directory, "tree"), "one");
    await store.importRoot({ kind: "directory", path: tree }, { tags: ["app:1"] });
    await commitChange(store, "app:1", "app:2", "two");
    await commitChange(store, "app:1", "app:3", "three");
    await store.createContainer({ image: "app:2", name: "box" });
    state = await stateOf(store);
  });

  test("to another driver", async (t) => {
    for await (const { point, copy } of crashes("driver", root, { target: () => "vfs", step: 5 })) {
      await t.test(point, async () => {
        let layers: number;
        {
          await using store = await open(copy);
          if (point.includes("migrate.moved")) return;
          assert.equal(store.driver.name, "overlay2", "the old driver counts until all is moved");
          assert.equal(await stateOf(store), state);
          await using half = await Store.open({ root: copy, driver: "vfs", durable: false });
          assert.deepEqual((await half.check({ deep: true })).findings, []);
          layers = half.layers().length;
        }
        {
          await using store = await open(copy);
          const report = await migrateToDriver(store, { driver: "vfs" });
          assert.equal(report.layers.made, 3 - layers, "layers that were there were made again");
        }
        await using store = await open(copy);
        assert.equal(store.driver.name, "vfs");
        assert.equal(await stateOf(store), state);
      });
    }
  });

  test("while it removes the old data", async (t) => {
    const moved = join(directory, "moved");
    execFileSync("cp", ["-a", root, moved]);
    assert.equal(await runChild("driver", moved, "vfs", 0), undefined);
    for await (const { point, copy } of crashes("finish", moved, { target: () => "", step: 2 })) {
      await t.test(point, async () => {
        {
          await using store = await open(copy);
          assert.equal(store.driver.name, "vfs");
          assert.equal(await stateOf(store), state);
        }
        await finishMigration({ root: copy });
        assert.deepEqual(readdirSync(join(copy, "records")), ["vfs"]);
        await using store = await open(copy);
        assert.equal(await stateOf(store), state);
      });
    }
  });

  test("to Docker's root, and from there", async (t) => {
    const whole = join(directory, "docker");
    assert.equal(await runChild("to-docker", root, whole, 0), undefined);
    const trees = (path: string): number => readdirSync(join(path, "overlay2")).length;
    const atOnce = { target: (copy: string) => `${copy}-docker` };
    for await (const { point, copy } of crashes("to-docker", root, { ...atOnce, step: 3 })) {
      await t.test(point, async () => {
        await using store = await open(copy);
        assert.deepEqual((await migrateToDocker(store, { root: `${copy}-docker` })).leftOut, []);
        assert.equal(trees(`${copy}-docker`), trees(whole), "trees that no layer has");
        assert.deepEqual(readdirSync(`${copy}-docker/image/overlay2/layerdb/tmp`), []);
        execFileSync("rm", ["-rf", `${copy}-docker`]);
      });
    }
    const empty = join(directory, "empty");
    await (await open(empty, "overlay2"))[Symbol.asyncDispose]();
    for await (const { point, copy } of crashes("from-docker", empty, { target: () => whole, step: 9 })) {
      await t.test(point, async () => {
        await using store = await open(copy);
        assert.deepEqual((await migrateFromDocker(store, { root: whole })).leftOut, []);
        assert.deepEqual((await store.check({ deep: true })).findings, []);
        assert.equal(store.images().length, 3);
      });
    }
  });
});
