/** The driver suite: several processes at work, and some that are killed at it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { refuses, type SceneTest } from "./driver-scene.ts";

/** Enough that a process is killed in the middle of it. */
function fill(root: string): void {
  writeFileSync(`${root}/file`, "x");
  for (let i = 0; i < 100; i++) writeFileSync(`${root}/file-${i}`, "content");
}

export function testProcesses(scene: SceneTest): void {
  scene("shares a mount between two processes", async (s) => {
    const id = await s.layer(await s.layer());
    const child = await s.spawn("hold", id);
    const mine = await s.driver.mount(id);
    writeFileSync(`${mine.path}/mine`, "x");
    await mine[Symbol.asyncDispose]();
    await refuses("failed_precondition", s.driver.remove(id));
    assert.equal(readFileSync(`${mine.path}/mine`, "utf8"), "x");
    child.stdin.end("done\n");
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
    assert.deepEqual(await s.mountsLeft(), []);
    await s.driver.remove(id);
  });

  scene("lets processes mount and unmount one layer at the same time", async (s) => {
    const id = await s.layer(await s.layer(), (root) => writeFileSync(`${root}/file`, "x"));
    const others = await Promise.all([s.spawn("cycle", id), s.spawn("cycle", id)]);
    const exits = others.map((child) => (child.exitCode === null ? once(child, "exit") : [child.exitCode]));
    for (let i = 0; i < 40; i++) await s.change(id, (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
    for (const exit of exits) assert.equal((await exit)[0], 0);
    assert.deepEqual(await s.mountsLeft(), []);
    await s.change(id, (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
    await s.driver.remove(id);
  });

  scene("lets processes make, fill, mount and remove layers at the same time", async (s) => {
    const base = await s.layer(undefined, fill);
    const tarPath = join(s.scratch, "base.tar");
    const exported = await s.export(base, tarPath);
    const others = await Promise.all([s.spawn("churn", base, tarPath), s.spawn("churn", base, tarPath)]);
    for (let i = 0; i < 10; i++) {
      const id = await s.layer(base);
      await s.apply(id, tarPath, exported);
      await s.read(id, (root) => assert.equal(readdirSync(root).length, 101));
      await s.driver.remove(id);
    }
    for (const child of others) {
      assert.equal(child.exitCode, null, "it has ended by itself");
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
    await s.driver.reclaim();
    for (const id of await s.driver.list()) if (id !== base) await s.driver.remove(id);
    assert.deepEqual(await s.driver.list(), [base]);
  });

  scene("survives a process killed while it has a layer mounted", async (s) => {
    const base = await s.layer();
    const id = await s.layer(base, (root) => writeFileSync(`${root}/file`, "x"));
    const child = await s.spawn("hold", id);
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
    await s.reopen();
    await s.driver.reclaim();
    assert.deepEqual(await s.mountsLeft(), []);
    await s.change(id, (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
    assert.equal(await s.driver.reclaim(), 0);
    await s.driver.remove(id);
  });

  scene("survives a process killed while it makes and removes layers", async (s) => {
    const base = await s.layer(undefined, fill);
    const tarPath = join(s.scratch, "base.tar");
    await s.export(base, tarPath);
    for (let i = 0; i < 3; i++) {
      const child = await s.spawn("churn", base, tarPath);
      await new Promise((resolve) => setTimeout(resolve, 40 + 37 * i));
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
      await s.reopen();
      await s.driver.reclaim();
      assert.equal(await s.driver.reclaim(), 0);
      for (const id of await s.driver.list()) {
        await s.read(id, (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
        if (id !== base) await s.driver.remove(id);
      }
    }
    const hidden = readdirSync(s.home, { recursive: true }).filter((name) =>
      /-(creating|removing)-/.test(String(name)),
    );
    assert.deepEqual(hidden, []);
  });
}
