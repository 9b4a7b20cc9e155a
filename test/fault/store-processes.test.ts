/** Several processes, or several stores of one process, at work on one root. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { channels, type LayerEvent } from "../../src/store/channels.ts";
import { Store } from "../../src/store/store.ts";
import { assertWhole, commitChange, driverName, makeArchive, makeTree, openStore, scratch } from "./store-fixtures.ts";

const child = fileURLToPath(new URL("./store-load-child.ts", import.meta.url));
const register = fileURLToPath(new URL("../register.mjs", import.meta.url));

/** Loads the archive in a process of its own; answers how many layers it unpacked and how many it found. */
function loadInChild(root: string, archive: string): Promise<{ unpacked: number; exists: number }> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, ["--import", register, child, root, driverName, archive], (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as { unpacked: number; exists: number });
      else reject(new Error(stderr, { cause: error }));
    });
  });
}

test("two processes load one archive: every layer is unpacked once", async (t) => {
  const directory = scratch(t);
  const archive = await makeArchive(directory, "docker-archive");
  const root = join(directory, "root");
  const results = await Promise.all([loadInChild(root, archive), loadInChild(root, archive)]);
  assert.equal(
    results.reduce((sum, { unpacked }) => sum + unpacked, 0),
    3,
  );
  assert.equal(
    results.reduce((sum, { exists }) => sum + exists, 0),
    3,
  );
  await using store = await openStore(root);
  assert.deepEqual(
    store.images().map(({ tags }) => tags),
    [["app:3"]],
  );
  await assertWhole(store);
});

test("two stores in one process load one archive: every layer is unpacked once", async (t) => {
  const directory = scratch(t);
  const archive = await makeArchive(directory, "oci-archive");
  const root = join(directory, "root");
  await using first = await openStore(root);
  await using second = await openStore(root);
  const events: string[] = [];
  const listen = (message: unknown): void => void events.push((message as LayerEvent).event);
  channels.layer.subscribe(listen);
  t.after(() => channels.layer.unsubscribe(listen));
  await Promise.all([first.load({ path: archive }), second.load({ path: archive })]);
  assert.deepEqual(events.sort(), ["exists", "exists", "exists", "unpacked", "unpacked", "unpacked"]);
  await assertWhole(first);
});

test("a layer that another process holds is not collected", async (t) => {
  const directory = scratch(t);
  const root = join(directory, "root");
  await using store = await openStore(root);
  await using other = await openStore(root);
  const image = await store.importRoot(
    { kind: "directory", path: makeTree(join(directory, "tree"), "x") },
    { tags: ["base"] },
  );
  const chainId = image.chainId;
  assert.ok(chainId !== undefined);
  {
    using _hold = other.hold(chainId);
    await store.removeImage("base");
    await store.gc();
    assert.ok(store.layer(chainId) !== undefined);
  }
  assert.equal((await store.gc()).layers, 1);
  assert.equal(store.layer(chainId), undefined);
  assert.throws(() => other.hold(chainId), { code: "NO_SUCH_LAYER" });
  await assertWhole(store);
});

test("what a living process has made and not published survives the start of others and gc", async (t) => {
  const root = join(scratch(t), "root");
  await using store = await openStore(root);
  const active = await store.beginLayer(undefined);
  writeFileSync(join((await store.driver.applyTarget(active.layerId)).value.root, "file"), "text");
  {
    await using other = await openStore(root);
    await other.gc();
    assert.deepEqual((await other.check()).findings, []);
  }
  const sealed = store.sealLayer(active);
  await store.publish({ layers: [sealed], cache: [{ key: "k", chainId: (await sealed.done).chainId }] });
  await using other = await Store.open({ root, durable: false });
  assert.equal(other.driver.name, driverName);
  assert.equal(other.cacheGet("k")?.chainId, (await sealed.done).chainId);
});

test("two stores commit the same change: one layer stays, and both images use it", async (t) => {
  const directory = scratch(t);
  const root = join(directory, "root");
  await using store = await openStore(root);
  await using other = await openStore(root);
  await store.importRoot({ kind: "directory", path: makeTree(join(directory, "tree"), "x") }, { tags: ["base"] });
  const makeImage = async (by: Store, tag: string): Promise<void> => {
    const container = await by.createContainer({ image: "base" });
    writeFileSync(join((await by.driver.applyTarget(container.layerId)).value.root, "same"), "same");
    await by.commitContainer(container.id, { tags: [tag], clampMtimeSec: 1 });
    await by.removeContainer(container.id);
  };
  await Promise.all([makeImage(store, "a"), makeImage(other, "b")]);
  assert.equal(store.image("a").chainId, store.image("b").chainId);
  await assertWhole(store);
});

test("images of many commits share their layers; removing them one by one leaves nothing", async (t) => {
  const directory = scratch(t);
  await using store = await openStore(join(directory, "root"));
  await store.importRoot({ kind: "directory", path: makeTree(join(directory, "tree"), "x") }, { tags: ["v:0"] });
  for (let i = 1; i < 6; i++) await commitChange(store, `v:${i - 1}`, `v:${i}`, String(i));
  assert.equal((await store.driver.list()).length, 6);
  for (const i of [3, 0, 5, 1, 4, 2]) {
    await store.removeImage(`v:${i}`);
    await assertWhole(store);
  }
  assert.deepEqual(await store.driver.list(), []);
});
