/** The processes that fuse-overlay keeps for its mounts: used again, ended when there is nothing more to do. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { listChanges } from "../../src/diff/export-layer.ts";
import type { LayerId } from "../../src/drivers/driver.ts";
import { fuseOverlayFactory } from "../../src/drivers/fuse-overlay/factory.ts";
import { ownCommand } from "../../src/drivers/fuse-overlay/own-command.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { umount } from "../../src/fs/mounts.ts";
import { workerUrl } from "../../src/fs/worker-pool.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { gone } from "../support/processes.ts";

const place = placeOf("host");
const { skip } = place;

/** A home with a layer on another; `servers` are the processes that wait or serve there. */
async function home(): Promise<{ path: string; layer: LayerId; servers: () => number[] }> {
  const path = directoryIn(place);
  const driver = await fuseOverlayFactory.open(path, {});
  const [base, layer] = [newLayerId(), newLayerId()];
  await driver.create(base, undefined);
  await driver.create(layer, base);
  const isServer = (pid: string): boolean => {
    try {
      return (
        fs.readlinkSync(`/proc/${pid}/cwd`) === path && fs.readFileSync(`/proc/${pid}/cmdline`).includes("--serves")
      );
    } catch {
      return false;
    }
  };
  const servers = (): number[] =>
    fs
      .readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && isServer(name))
      .map(Number);
  return { path, layer, servers };
}

test("a process that nobody asks for anything ends by itself", async (t) => {
  const [file, ...words] = ownCommand();
  const server = spawn(file, [...words, "--serves", "200"], { stdio: ["ignore", "ignore", "inherit", "pipe"] });
  t.after(() => server.kill("SIGKILL"));
  const signal = AbortSignal.timeout(30_000);
  assert.deepEqual(await once(server, "exit", { signal }), [0, null]);
});

test("one process serves one mount after another, two serve two, and none is left", { skip }, async () => {
  const { path, layer, servers } = await home();
  const driver = await fuseOverlayFactory.open(path, {});
  assert.deepEqual(servers(), []);
  const other = newLayerId();
  await driver.create(other, driver.parentOf(layer));
  let first: number | undefined;
  let descriptors: number | undefined;
  for (let i = 0; i < 20; i++) {
    await using mounted = await driver.mount(layer);
    fs.mkdirSync(join(mounted.path, `${i}/in`), { recursive: true });
    fs.writeFileSync(join(mounted.path, `${i}/file`), "x");
    const [pid, ...more] = servers();
    first ??= pid;
    assert.deepEqual([pid, more], [first, []]);
    const open = fs.readdirSync(`/proc/${pid}/fd`).length;
    // With the first mount, Node.js opens some for itself.
    if (i === 1) descriptors = open;
    if (i > 1)
      assert.ok(open <= (descriptors ?? 0) + 2, `${open} descriptors after ${i} mounts, ${descriptors} at first`);
  }
  const mounts = [await driver.mount(layer), await driver.mount(other)];
  assert.equal(servers().length, 2);
  for (const mounted of mounts) await mounted[Symbol.asyncDispose]();
  const kept = await driver.mount(layer, { keep: true });
  await driver.rest();
  const [last = 0, ...more] = servers();
  assert.deepEqual(more, []);
  fs.readdirSync(kept.path);
  await kept[Symbol.asyncDispose]();
  await driver.unmountAll(layer);
  await gone(last);
  // And from the beginning.
  await (await driver.mount(layer))[Symbol.asyncDispose]();
  await driver.rest();
  assert.deepEqual(servers(), []);
});

test("a process that waits ends with the engine, one that serves with its mount", { skip }, async () => {
  const { path, layer, servers } = await home();
  const script = fileURLToPath(
    workerUrl(`${new URL("../../src/testing/", import.meta.url).href}x.ts`, "./driver-process"),
  );
  const engine = spawn(process.execPath, [...process.execArgv, script, "hold", "fuse-overlay", path, "{}", layer]);
  await once(engine.stdout, "data");
  const [serving = 0] = servers();
  engine.kill("SIGKILL");
  await once(engine, "exit");
  const driver = await fuseOverlayFactory.open(path, {});
  assert.deepEqual(servers(), [serving]);
  assert.equal(await driver.reclaim(), 1);
  await gone(serving);
  const cycling = spawn(process.execPath, [...process.execArgv, script, "churn", "fuse-overlay", path, "{}", layer]);
  cycling.kill("SIGKILL");
  await once(cycling, "exit");
  assert.deepEqual(servers(), []);
});

test("a server that has died is replaced", { skip }, async () => {
  const { path, layer, servers } = await home();
  const driver = await fuseOverlayFactory.open(path, {});
  await (await driver.mount(layer))[Symbol.asyncDispose]();
  const [first = 0] = servers();
  process.kill(first, "SIGKILL");
  await gone(first);
  {
    await using mounted = await driver.mount(layer);
    fs.writeFileSync(join(mounted.path, "file"), "x");
    const [second = 0] = servers();
    assert.notEqual(second, first);
    process.kill(second, "SIGKILL");
    await gone(second);
    assert.throws(() => fs.readdirSync(mounted.path), { code: "ENOTCONN" });
  }
  await using mounted = await driver.mount(layer);
  assert.deepEqual(fs.readdirSync(mounted.path), ["file"]);
  await mounted[Symbol.asyncDispose]();
  await driver.rest();
});

test("layers of a home that another program has been at may hold marks that are files", { skip }, async () => {
  const { path, layer } = await home();
  const marks = (): string => fs.readFileSync(join(path, ".lamella/marks"), "utf8");
  assert.equal(marks(), "overlayfs\n");
  const own = await fuseOverlayFactory.open(path, {});
  const base = join(path, own.parentOf(layer) ?? "", "diff");
  const seen = async (): Promise<string[]> => {
    await using mounted = await own.mount(layer);
    return fs.readdirSync(mounted.path).sort();
  };
  const changes = async (): Promise<string[]> => {
    await using source = await own.diffSource(layer);
    return (await listChanges(source.value)).map(({ kind, path: at }) => `${kind} ${at}`);
  };
  fs.writeFileSync(join(base, "file"), "x");
  {
    // An object as any other.
    await using mounted = await own.mount(layer);
    fs.writeFileSync(join(mounted.path, ".wh.file"), "");
  }
  assert.deepEqual(await seen(), [".wh.file", "file"]);
  await assert.rejects(changes(), { code: "INEXPRESSIBLE_NAME" });
  await fuseOverlayFactory.open(path, { "fuse_overlay.mount_program": "/bin/true" });
  assert.equal(marks(), "any\n");
  // Now it is a mark.
  assert.deepEqual(await seen(), []);
  assert.deepEqual(await changes(), ["D /file"]);
  await fuseOverlayFactory.open(path, {});
  assert.equal(marks(), "any\n");
  await own.rest();
});

test("another program mounts nothing of what ours has written", { skip }, async () => {
  const { path, layer } = await home();
  const options = { "fuse_overlay.mount_program": "/bin/true" };
  const other = await fuseOverlayFactory.open(path, options);
  // It is asked: nothing was written yet.
  const target = join(path, layer, "merged");
  await (await other.mount(layer, { readOnly: true }))[Symbol.asyncDispose]();
  const driver = await fuseOverlayFactory.open(path, {});
  await (await driver.mount(layer))[Symbol.asyncDispose]();
  await driver.rest();
  const above = newLayerId();
  await other.create(above, layer);
  for (const id of [layer, above])
    await assert.rejects(other.mount(id), {
      code: "LAYER_HAS_REDIRECTS",
      message: /\/bin\/true does not understand layer/,
    });
  umount(target);
});
