/** overlay: the suite on ext4 and xfs, and what trees of hard links have of their own. */
import assert from "node:assert/strict";
import { chmodSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { carryOut } from "../../src/diff/carry-out.ts";
import type { UpperSource } from "../../src/diff/source.ts";
import type { Driver, LayerId } from "../../src/drivers/driver.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { overlayFactory } from "../../src/drivers/overlay/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { listTree } from "../../src/testing/tree-listing.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";

for (const type of ["host", "ext4", "xfs"] as const) {
  const place = placeOf(type);
  const { skip } = place;
  const makeHome = (): string => directoryIn(place);
  testDriver(`overlay on ${type}`, overlayFactory, {
    makeHome,
    skip,
    privileged: true,
    depth: 128,
    usage: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: false,
    metadataCopies: false,
  });
  testDriverProperty(`overlay on ${type}`, overlayFactory, { makeHome, skip, runs: 30 });
}

function home(t: TestContext, type: "host" | "ext4" = "host"): string | undefined {
  const place = placeOf(type);
  if (place.skip === undefined) {
    const path = directoryIn(place);
    t.after(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }
  t.skip(place.skip);
  return undefined;
}

async function layer(driver: Driver, parent: LayerId | undefined, fill?: (root: string) => void): Promise<LayerId> {
  const id = newLayerId();
  await driver.create(id, parent);
  if (fill === undefined) return id;
  await using mounted = await driver.mount(id);
  fill(mounted.path);
  return id;
}

test("lays files out as Docker's overlay does, and shares every inode that did not change", async (t) => {
  const at = home(t);
  if (at === undefined) return;
  const driver = await overlayFactory.open(at, {});
  const base = await layer(driver, undefined, (root) => {
    mkdirSync(`${root}/dir`);
    for (const name of ["dir/kept", "dir/mode", "gone"]) writeFileSync(`${root}/${name}`, name);
  });
  const before = statSync(`${at}/${base}/root/dir/mode`);
  const child = await layer(driver, base, (root) => {
    chmodSync(`${root}/dir/mode`, 0o600);
    rmSync(`${root}/gone`);
  });
  assert.deepEqual(readdirSync(`${at}/${child}`).sort(), ["lower-id", "upper", "work"]);
  assert.equal(readFileSync(`${at}/${child}/lower-id`, "utf8"), base);
  await layer(driver, child);
  const root = `${at}/${child}/root`;
  assert.deepEqual(readdirSync(root), ["dir"]);
  assert.equal(statSync(`${root}/dir/kept`).ino, statSync(`${at}/${base}/root/dir/kept`).ino);
  assert.notEqual(statSync(`${root}/dir/mode`).ino, before.ino);
  assert.equal(statSync(`${root}/dir/mode`).mode & 0o777, 0o600);
  assert.equal(statSync(`${at}/${base}/root/dir/mode`).mode, before.mode);
  assert.equal((await driver.diffSource(child)).value.kind, "upper");
  assert.deepEqual(
    driver.status().map(([key]) => key),
    ["Backing Filesystem", "Supports d_type"],
  );
  await assert.rejects(overlayFactory.open(at, { "overlay.size": "1G" }), /overlay: unknown option overlay.size/);
});

test("copies what takes no more names, and keeps the links within the tree", async (t) => {
  const at = home(t, "ext4");
  if (at === undefined) return;
  const driver = await overlayFactory.open(at, {});
  const base = await layer(driver, undefined, (root) => {
    mkdirSync(`${root}/a`);
    writeFileSync(`${root}/a/many`, "full");
    linkSync(`${root}/a/many`, `${root}/twin`);
  });
  // ext4 takes 65,000 names: one of the two finds a place in the next tree, or none.
  const names = `${at}/names`;
  mkdirSync(names);
  for (let i = 0; i < 64_997; i++) linkSync(`${at}/${base}/root/twin`, `${names}/${i}`);
  let parent = base;
  for (let i = 0; i < 2; i++) {
    const child = await layer(driver, parent, (root) => writeFileSync(`${root}/own${i}`, ""));
    await layer(driver, child);
    const inode = (name: string): number => statSync(`${at}/${child}/root/${name}`).ino;
    assert.equal(inode("a/many"), inode("twin"));
    assert.equal(readFileSync(`${at}/${child}/root/twin`, "utf8"), "full");
    assert.notEqual(inode("twin"), statSync(`${at}/${base}/root/twin`).ino);
    parent = child;
  }
  assert.equal(statSync(`${at}/${base}/root/twin`).nlink, 64_999);
});

test("goes on where a crash left a tree half made, or half carried out", async (t) => {
  const at = home(t);
  if (at === undefined) return;
  const driver = await overlayFactory.open(at, {});
  const base = await layer(driver, undefined, (root) => {
    for (const name of ["a", "b", "c"]) {
      mkdirSync(`${root}/${name}`);
      writeFileSync(`${root}/${name}/file`, name);
    }
  });
  const child = await layer(driver, base);
  mkdirSync(`${at}/${child}/tmproot-0a1b2c3d/a`, { recursive: true });
  assert.equal(await driver.reclaim(), 1);
  {
    await using target = await driver.applyTarget(child);
    assert.equal(target.value.whiteouts, "remove");
  }
  const changes = (root: string): void => {
    rmSync(`${root}/a`, { recursive: true });
    mkdirSync(`${root}/a`);
    writeFileSync(`${root}/a/new`, "new");
    chmodSync(`${root}/b/file`, 0o600);
    rmSync(`${root}/c`, { recursive: true });
  };
  {
    await using mounted = await driver.mount(child);
    changes(mounted.path);
  }
  await using shown = await driver.mount(child, { readOnly: true });
  const expected = listTree(shown.path);
  await shown[Symbol.asyncDispose]();
  const root = `${at}/${child}/root`;
  const source: UpperSource = {
    kind: "upper",
    upper: `${at}/${child}/over`,
    lowers: [root],
    prefix: "trusted.overlay.",
  };
  let left = 3;
  assert.throws(() => carryOut(source, root, () => assert.ok(left-- > 0, "killed")), /killed/);
  await driver.seal(child);
  assert.deepEqual(listTree(root), expected);
  assert.equal(statSync(`${at}/${base}/root/b/file`).mode & 0o777, 0o644);
  const { value } = await driver.diffSource(child);
  assert.deepEqual(value.kind === "trees" && value.hint, { kind: "inode" });
});
