import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Store } from "./store.ts";

const driver = process.getuid?.() === 0 ? "overlay2" : "vfs";

interface Lab {
  readonly directory: string;
  readonly store: Store;
}

async function lab(t: TestContext): Promise<Lab> {
  const directory = mkdtempSync(join(tmpdir(), "lamella-store-"));
  const store = await Store.open({ root: join(directory, "root"), driver, durable: false });
  t.after(async () => {
    await store[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });
  return { directory, store };
}

async function importFile({ directory, store }: Lab, tags: readonly string[], content = "x"): Promise<void> {
  const tree = join(directory, "tree");
  mkdirSync(tree, { recursive: true });
  writeFileSync(join(tree, "file"), content);
  await store.importRoot({ kind: "directory", path: tree }, { tags, createdAt: "2020-01-01T00:00:00Z" });
}

test("an image is found by name, name:tag, ID and prefix; what is not there names what is near", async (t) => {
  const at = await lab(t);
  await importFile(at, ["team/app:1.2", "hello"]);
  const { store } = at;
  const { id } = store.image("hello");
  for (const text of ["hello:latest", "team/app:1.2", id, id.slice(7), id.slice(0, 12), id.slice(7, 12)])
    assert.equal(store.image(text).id, id, text);
  assert.throws(() => store.image("helo"), { code: "NO_SUCH_IMAGE", hint: "did you mean hello:latest?" });
  assert.throws(() => store.image("team/app:1.3"), { hint: /team\/app:1\.2/ });
  assert.equal(store.findImage("team/app"), undefined);
  assert.throws(() => store.image("No Such!"), { code: "NO_SUCH_IMAGE" });
});

test("a prefix of several IDs is refused", async (t) => {
  const at = await lab(t);
  for (let i = 0; i < 20; i++) await importFile(at, [`n:${i}`], String(i));
  const first = at.store.images().map(({ id }) => id[7]);
  const twice = first.find((digit, i) => first.indexOf(digit) !== i) ?? "";
  assert.throws(() => at.store.image(twice), { code: "AMBIGUOUS_ID" });
});

test("tags move, and removing follows docker rmi", async (t) => {
  const at = await lab(t);
  const { store } = at;
  await importFile(at, ["a:1"], "one");
  await importFile(at, ["b:1"], "two");
  const one = store.image("a:1").id;
  store.tag("a:1", "a:2");
  assert.equal(store.tag("b:1", "moved"), "moved:latest");
  store.tag("a:1", "moved");
  assert.equal(store.image("moved").id, one);
  assert.deepEqual(store.tagsOf(one), ["a:1", "a:2", "moved:latest"]);
  await assert.rejects(store.removeImage(one), { code: "IMAGE_TAGGED" });
  assert.deepEqual(await store.removeImage("a:1"), [{ kind: "untagged", tag: "a:1" }]);
  const container = await store.createContainer({ image: "a:2", name: "box" });
  await assert.rejects(store.removeImage(one), { code: "IMAGE_IN_USE" });
  store.untag("moved");
  await assert.rejects(store.removeImage("a:2"), { code: "IMAGE_IN_USE", message: /box/ });
  assert.deepEqual(
    (await store.removeImage("a:2", { force: true })).map(({ kind }) => kind),
    ["untagged", "deleted_image"],
  );
  {
    await using mounted = await store.driver.mount(container.layerId);
    assert.equal(readFileSync(join(mounted.path, "file"), "utf8"), "one");
  }
  await store.removeContainer("box");
  assert.equal((await store.gc()).layers, 1);
  assert.deepEqual((await store.check({ deep: true })).findings, []);
});

test("containers have names; a taken one is refused; a mounted one stays", async (t) => {
  const at = await lab(t);
  const { store } = at;
  await importFile(at, ["a"]);
  const box = await store.createContainer({ image: "a", name: "box" });
  await assert.rejects(store.createContainer({ image: "a", name: "box" }), { code: "CONTAINER_NAME_TAKEN" });
  await assert.rejects(store.createContainer({ image: "a", name: "../x" }), { code: "CONTAINER_NAME" });
  await assert.rejects(store.createContainer({ image: "nothing" }), { code: "NO_SUCH_IMAGE" });
  assert.equal(store.container(box.id.slice(0, 10)).id, box.id);
  assert.throws(() => store.container("bx"), { hint: "did you mean box?" });
  {
    await using mounted = await store.driver.mount(box.layerId);
    writeFileSync(join(mounted.path, "new"), "1");
  }
  const committed = await store.commitContainer("box", {
    tags: ["b"],
    author: "me",
    edit: (config) => ({ ...config, config: { Cmd: ["sh"] } }),
  });
  const { config } = await store.config(committed.id);
  assert.deepEqual(config.config?.Cmd, ["sh"]);
  assert.equal(config.history?.length, 2);
  await store.removeContainer("box");
  assert.deepEqual(store.containers(), []);
});

test("cache rows keep what a step gave until gc drops them", async (t) => {
  const at = await lab(t);
  const { store } = at;
  const active = await store.beginLayer(undefined);
  writeFileSync(join((await store.driver.applyTarget(active.layerId)).value.root, "step"), "1");
  const staged = store.sealLayer(active);
  const { chainId } = await staged.done;
  const key = "a very long key ".repeat(100);
  await store.publish({ layers: [staged], cache: [{ key, chainId }] });
  await store.gc();
  assert.equal(store.cacheGet(key)?.chainId, chainId);
  assert.equal(store.cacheGet("other"), undefined);
  const report = await store.gc({ cacheMaxAgeMs: 0 });
  assert.deepEqual([report.cacheRows, report.layers, report.orphans], [1, 1, 0]);
  await assert.rejects(store.publish({ cache: [{ key, chainId }] }), { code: "LAYER_REMOVED" });
});

test("a step may stand on another that is still being hashed, and both are published at once", async (t) => {
  const { store } = await lab(t);
  const first = await store.beginLayer(undefined);
  writeFileSync(join((await store.driver.applyTarget(first.layerId)).value.root, "one"), "1");
  const one = store.sealLayer(first);
  const second = await store.beginLayer(one);
  {
    await using mounted = await store.driver.mount(second.layerId);
    assert.equal(readFileSync(join(mounted.path, "one"), "utf8"), "1");
    writeFileSync(join(mounted.path, "two"), "2");
  }
  const two = store.sealLayer(second);
  await assert.rejects(store.publish({ layers: [two] }), { code: "PARENT_UNPUBLISHED" });
  await assert.rejects(store.discardLayer(one), { code: "HAS_CHILDREN" });
  await store.publish({ layers: [two, one] });
  assert.equal(store.layersOf((await two.done).chainId).length, 2);
  await store.discardLayer(one);
  assert.deepEqual((await store.check({ deep: true })).findings, []);
});

test("check finds what is lost or left over, and repair mends it", async (t) => {
  const at = await lab(t);
  const { store } = at;
  await importFile(at, ["a"], "one");
  await importFile(at, ["b"], "two");
  const [layer] = store.layersOf(store.image("a").chainId);
  assert.ok(layer !== undefined);
  writeFileSync(join(store.root, "records", store.driver.name, "f".repeat(64)), "orphan");
  writeFileSync(join(store.root, "blobs/sha256", "e".repeat(64)), "orphan");
  writeFileSync(join(store.root, "blobs/sha256", store.image("b").id.slice(7)), "altered");
  writeFileSync(join((await store.driver.contentSource(layer.layerId)).value.layers[0] ?? "", "file"), "ONE");
  const kinds = async (options = {}): Promise<string[]> =>
    (await store.check({ deep: true, ...options })).findings.map(({ kind }) => kind).sort();
  assert.deepEqual(await kinds(), ["bad_blob", "bad_layer", "orphan_blob", "orphan_record"]);
  await kinds({ repair: true });
  assert.deepEqual(await kinds(), []);
  assert.deepEqual(store.images(), []);
  assert.equal((await store.gc()).layers, 1);
  assert.deepEqual(await store.driver.list(), []);
});

test("an import that fails or is canceled leaves nothing", async (t) => {
  const at = await lab(t);
  const { store, directory } = at;
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(512, "x");
  }
  await assert.rejects(store.importRoot({ kind: "tar", stream: broken() }, { tags: ["x"] }), /tar/);
  await importFile(at, []);
  const signal = AbortSignal.abort();
  await assert.rejects(store.importRoot({ kind: "directory", path: join(directory, "tree") }, { signal }), {
    kind: "canceled",
  });
  await assert.rejects(store.importRoot({ kind: "directory", path: directory }), { code: "ROOT_INSIDE" });
  await assert.rejects(store.importRoot({ kind: "directory", path: "/nowhere" }), { code: "ENOENT" });
  assert.deepEqual((await store.check({ deep: true })).findings, []);
  assert.equal((await store.driver.list()).length, 1);
});

test("usage is what du says", async (t) => {
  const at = await lab(t);
  await importFile(at, ["a"], "x".repeat(100_000));
  const usage = await at.store.usage();
  const [du] = execFileSync("du", ["-s", "-B1", at.store.root], { encoding: "utf8" }).split("\t");
  assert.equal(usage.totalBytes, Number(du));
  const { layersBytes, recordsBytes, blobsBytes, metadataBytes, otherBytes, totalBytes } = usage;
  assert.equal(layersBytes + recordsBytes + blobsBytes + metadataBytes + otherBytes, totalBytes);
});

test("closing discards what was not published, and twice is once", async (t) => {
  const { store, directory } = await lab(t);
  await store.beginLayer(undefined);
  await store[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await using again = await Store.open({ root: store.root, durable: false });
  assert.deepEqual(await again.driver.list(), []);
  assert.ok(existsSync(join(directory, "root/meta/data.mdb")));
});
