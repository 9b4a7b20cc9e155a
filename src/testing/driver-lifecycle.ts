/** The driver suite: a layer's life, and stacks of layers. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { LayerId } from "../drivers/driver.ts";
import { newLayerId } from "../drivers/layer-id.ts";
import { isLamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { refuses, type SceneTest } from "./driver-scene.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";
import { listTree } from "./tree-listing.ts";

export function testLifecycle(scene: SceneTest): void {
  scene("makes, lists, seals and removes layers", async ({ driver }) => {
    const [base, child] = [newLayerId(), newLayerId()];
    assert.equal(driver.exists(base), false);
    assert.deepEqual(await driver.list(), []);
    await driver.create(base, undefined);
    await driver.create(child, base);
    assert.deepEqual(await driver.list(), [base, child].sort());
    assert.equal(driver.exists(child), true);
    assert.equal(driver.parentOf(base), undefined);
    assert.equal(driver.parentOf(child), base);
    await refuses("already_exists", driver.create(child, base));
    await refuses("not_found", driver.create(newLayerId(), newLayerId()));
    assert.throws(
      () => driver.parentOf(newLayerId()),
      (error) => isLamellaError(error, "not_found"),
    );
    await refuses("not_found", driver.seal(newLayerId()));
    await driver.seal(child);
    await driver.seal(child);
    await driver.remove(child);
    await driver.remove(child);
    await driver.remove(base);
    assert.deepEqual(await driver.list(), []);
    assert.equal(await driver.reclaim(), 0);
  });

  scene("makes an empty layer that is a writable empty directory", async (s) => {
    const id = await s.layer();
    await s.change(id, (root) => {
      assert.deepEqual(readdirSync(root), []);
      assert.equal(statSync(root).mode & 0o7777, 0o755);
      writeFileSync(`${root}/file`, "x");
    });
    assert.equal(await s.read(id, (root) => readFileSync(`${root}/file`, "utf8")), "x");
  });
}

const EDQUOT = 122;

/** For errors that Node has no name for. */
function isErrno(error: unknown, errno: number): boolean {
  return error instanceof Error && "errno" in error && error.errno === -errno;
}

/** Chains of layers, as long as the driver takes them. */
export function testStacks(scene: SceneTest, { depth = 128, quotaBytes, alwaysLimited }: DriverSuiteOptions): void {
  scene(`stacks ${depth} layers`, async (s) => {
    let top: LayerId | undefined;
    for (let i = 0; i < depth; i++) {
      top = await s.layer(top);
      await using target = await s.driver.applyTarget(top);
      writeFileSync(`${target.value.root}/f${i}`, String(i));
      // Every length of chain is mounted, from the first to the last.
      if (i < 130) await s.read(top, (root) => assert.equal(readFileSync(`${root}/f0`, "utf8"), "0"));
    }
    assert.ok(top !== undefined);
    await s.read(top, (root) => assert.equal(readdirSync(root).length, depth));
    await s.change(top, (root) => {
      assert.equal(readFileSync(`${root}/f0`, "utf8"), "0");
      writeFileSync(`${root}/f0`, "changed");
    });
    await s.driver.seal(top);
    await s.read(top, (root) => assert.equal(readFileSync(`${root}/f0`, "utf8"), "changed"));
    if (depth === s.driver.capabilities.maxDepth) await refuses("failed_precondition", s.layer(top));
  });

  if (quotaBytes !== undefined)
    scene("limits what a layer may grow to", async (s) => {
      const write = (root: string): void => {
        for (let written = 0; written < 4 * quotaBytes; written += 1 << 20) {
          appendFileSync(`${root}/growing`, Buffer.alloc(1 << 20, 1));
          execFileSync("sync", ["-f", root]);
        }
      };
      const base = await s.layer();
      const id = newLayerId();
      await s.driver.create(id, base, { sizeBytes: quotaBytes });
      await s.change(id, (root) => {
        assert.throws(
          () => write(root),
          (error) => hasCode(error, "EDQUOT") || hasCode(error, "ENOSPC") || isErrno(error, EDQUOT),
        );
        assert.ok(statSync(`${root}/growing`).size <= 2 * quotaBytes);
      });
      if (alwaysLimited === true) return;
      const free = await s.layer(base);
      await s.change(free, (root) => writeFileSync(`${root}/growing`, Buffer.alloc(2 * quotaBytes)));
    });

  scene("puts a layer and all above it on an equal parent", async (s) => {
    const fill = (root: string): void => {
      writeFileSync(`${root}/base`, "base");
      sys.utimensat(AT_FDCWD, `${root}/base`, { atimeSec: 1, atimeNsec: 0, mtimeSec: 1, mtimeNsec: 0 });
      sys.utimensat(AT_FDCWD, root, { atimeSec: 1, atimeNsec: 0, mtimeSec: 1, mtimeNsec: 0 });
    };
    const old = await s.layer(undefined, fill);
    const fresh = await s.layer(undefined, fill);
    const child = await s.layer(old, (root) => writeFileSync(`${root}/child`, "child"));
    const grandchild = await s.layer(child, (root) => rmSync(`${root}/base`));
    const before = [await s.read(child, listTree), await s.read(grandchild, listTree)];
    await s.driver.reparent(child, fresh);
    assert.equal(s.driver.parentOf(child), fresh);
    assert.equal(s.driver.parentOf(grandchild), child);
    await s.driver.remove(old);
    await s.reopen();
    assert.deepEqual([await s.read(child, listTree), await s.read(grandchild, listTree)], before);
    await s.change(grandchild, (root) => writeFileSync(`${root}/base`, "again"));
  });
}
