/** The driver suite: mounting, sharing mounts, and leaving none. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hasCode } from "../errors/syscall-error.ts";
import { refuses, type SceneTest } from "./driver-scene.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";

export function testMounts(scene: SceneTest, { cycles = 1000 }: DriverSuiteOptions): void {
  scene(`leaves nothing behind after ${cycles} layers`, async (s) => {
    const base = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
    const turn = async (): Promise<void> => {
      const id = await s.layer(base, (root) => writeFileSync(`${root}/own`, "o"));
      await s.driver.remove(id);
    };
    const state = async (): Promise<unknown> => {
      const mounts = await s.mountsLeft();
      return { mounts, files: s.openFiles(), host: s.options.hostState?.(), layers: await s.driver.list() };
    };
    // What a first use opens for good is not a leak.
    for (let i = 0; i < 5; i++) await turn();
    const before = await state();
    for (let i = 0; i < cycles; i++) await turn();
    assert.deepEqual(await state(), before);
    assert.equal(await s.driver.reclaim(), 0);
  });

  scene("mounts read-only what is committed, and what is asked for so", async (s) => {
    const base = await s.layer(undefined, (root) => writeFileSync(`${root}/a`, "a"));
    const child = await s.layer(base, (root) => writeFileSync(`${root}/b`, "b"));
    const readOnly = (root: string): void => {
      for (const write of [
        () => writeFileSync(`${root}/a`, ""),
        () => rmSync(`${root}/a`),
        () => mkdirSync(`${root}/n`),
      ])
        assert.throws(write, (error) => hasCode(error, "EROFS"));
    };
    await s.read(child, readOnly);
    await s.read(base, readOnly);
    for (const id of [base, child]) {
      await s.driver.seal(id);
      await using mounted = await s.driver.mount(id);
      assert.equal(mounted.readOnly, true);
      readOnly(mounted.path);
    }
  });

  scene("unmounts with the last use", async (s) => {
    const base = await s.layer();
    const id = await s.layer(base);
    const first = await s.driver.mount(id);
    const second = await s.driver.mount(id);
    assert.equal(first.path, second.path);
    await first[Symbol.asyncDispose]();
    await first[Symbol.asyncDispose]();
    writeFileSync(`${second.path}/still`, "here");
    await refuses("failed_precondition", s.driver.remove(id));
    await second[Symbol.asyncDispose]();
    assert.deepEqual(await s.mountsLeft(), []);
    assert.equal(s.driver.inUse(id), false);
    assert.equal(await s.driver.unmountAll(id), false);
  });

  scene("keeps a mount when asked to, until unmountAll", async (s) => {
    const id = await s.layer(await s.layer());
    const kept = await s.driver.mount(id, { keep: true });
    writeFileSync(`${kept.path}/file`, "x");
    await kept[Symbol.asyncDispose]();
    assert.equal(readFileSync(`${kept.path}/file`, "utf8"), "x");
    await s.reopen();
    assert.equal(await s.driver.reclaim(), 0);
    await s.change(id, (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
    assert.equal(readFileSync(`${kept.path}/file`, "utf8"), "x");
    await s.driver.unmountAll(id);
    assert.deepEqual(await s.mountsLeft(), []);
  });
}
