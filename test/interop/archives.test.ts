/** Archives and layouts that others read, and theirs that we read: skopeo and umoci. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { SaveFormat } from "../../src/store/save.ts";
import { assertWhole, commitChange, makeTree, openStore, scratch } from "../fault/store-fixtures.ts";

const has = (program: string): boolean => spawnSync(program, ["--version"]).error === undefined;
const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: "utf8" });

const formats: readonly (readonly [SaveFormat, string])[] = [
  ["docker-archive", "docker-archive:PATH:app:2"],
  ["oci-archive", "oci-archive:PATH:2"],
  ["oci-layout", "oci:PATH:2"],
];

test("skopeo reads what we save, and we load what it copies", async (t) => {
  if (!has("skopeo")) return t.skip("no skopeo");
  const directory = scratch(t);
  await using store = await openStore(join(directory, "root"));
  await store.importRoot({ kind: "directory", path: makeTree(join(directory, "tree"), "x") }, { tags: ["app:1"] });
  await commitChange(store, "app:1", "app:2", "two");
  const image = store.image("app:2");
  const { config } = await store.config(image.id);
  for (const [format, name] of formats) {
    await t.test(format, async () => {
      const path = join(directory, format);
      await store.save(["app:2"], { path }, { format });
      const source = name.replace("PATH", path);
      const inspected = JSON.parse(run("skopeo", "inspect", "--config", source)) as { rootfs: { diff_ids: string[] } };
      assert.deepEqual(inspected.rootfs.diff_ids, config.rootfs.diff_ids);
      for (const other of ["docker-archive", "oci-archive"]) {
        const copy = join(directory, `${format}-${other}`);
        run("skopeo", "--insecure-policy", "copy", "-q", source, `${other}:${copy}:registry.example/copy/app:2`);
        await using fresh = await openStore(join(directory, "fresh"));
        const [loaded] = await fresh.load({ path: copy });
        assert.deepEqual(loaded?.tags, ["registry.example/copy/app:2"]);
        assert.equal(fresh.image("registry.example/copy/app:2").chainId, image.chainId);
        await assertWhole(fresh);
        await fresh[Symbol.asyncDispose]();
        rmSync(join(directory, "fresh"), { recursive: true });
      }
    });
  }
});

test("umoci unpacks what we save to the tree we mount", async (t) => {
  if (!has("umoci")) return t.skip("no umoci");
  if (process.getuid?.() !== 0) return t.skip("not root: umoci would need --rootless");
  const directory = scratch(t);
  await using store = await openStore(join(directory, "root"));
  await store.importRoot({ kind: "directory", path: makeTree(join(directory, "tree"), "x") }, { tags: ["app:1"] });
  await commitChange(store, "app:1", "app:2", "two");
  const path = join(directory, "layout");
  await store.save(["app:2", "app:1"], { path }, { format: "oci-layout" });
  run("umoci", "unpack", "--image", `${path}:2`, join(directory, "bundle"));
  const container = await store.createContainer({ image: "app:2" });
  {
    await using mounted = await store.driver.mount(container.layerId);
    run("diff", "-r", "--no-dereference", join(directory, "bundle/rootfs"), mounted.path);
    assert.equal(readFileSync(join(mounted.path, "etc/marker-two"), "utf8"), "two");
  }
});
