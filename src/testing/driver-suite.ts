/**
 * What every storage driver must do, as tests: `testDriver` registers them with node:test. A driver is whatever passes.
 *
 * The caller sees to the surroundings: a mount namespace of the test's own where the driver mounts, and homes on the file
 * system to be tested. Every test has a home of its own, opens the driver there, and at its end looks for mounts left.
 * One long file, since it is one list: what is asked of a driver is to be read in one place.
 */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { Driver, DriverFactory, LayerId } from "../drivers/driver.ts";
import { newLayerId } from "../drivers/layer-id.ts";
import { isLamellaError } from "../errors/lamella-error.ts";
import { hasCode } from "../errors/syscall-error.ts";
import { readMountInfo } from "../fs/mountinfo.ts";
import { workerUrl } from "../fs/worker-pool.ts";
import { AT_FDCWD, O_RDONLY, S_IFCHR, S_IFIFO } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { listTree } from "./tree-listing.ts";

export interface DriverSuiteOptions {
  /** Makes an empty directory for a driver's home on the file system under test; the suite removes it. */
  readonly makeHome: () => string;
  readonly driverOptions?: Readonly<Record<string, string>>;
  /** Why the suite cannot run here. */
  readonly skip?: string | undefined;
  /** Length of the deep chain; 128 when not given. */
  readonly depth?: number;
  /** The caller may give files to other users and make devices: root outside a user namespace. */
  readonly privileged: boolean;
  /** The directory a layer's usage is measured by. */
  readonly layerDirectory: (home: string, id: LayerId) => string;
  /** A directory of a lower layer can be renamed; false registers no test of it. */
  readonly renamesLowerDirectories: boolean;
  /** Changing the owner of a lower file copies no data; false registers no test of it. */
  readonly metadataCopies: boolean;
}

/** Registers the suite under `name`. */
export function testDriver(name: string, factory: DriverFactory, options: DriverSuiteOptions): void {
  describe(name, { skip: options.skip ?? false }, () => {
    const scene = (title: string, body: (scene: Scene) => Promise<void>): void => {
      it(title, async () => {
        await using opened = await Scene.open(factory, options);
        await body(opened);
      });
    };
    lifecycle(scene);
    trees(scene, options);
    stacks(scene, options);
    mounts(scene);
    processes(scene);
  });
}

type SceneTest = (title: string, body: (scene: Scene) => Promise<void>) => void;

/** A driver in a fresh home, with short ways to say what tests do. */
class Scene implements AsyncDisposable {
  readonly home: string;
  readonly factory: DriverFactory;
  readonly options: DriverSuiteOptions;
  driver: Driver;

  private constructor(home: string, factory: DriverFactory, options: DriverSuiteOptions, driver: Driver) {
    this.home = home;
    this.factory = factory;
    this.options = options;
    this.driver = driver;
  }

  static async open(factory: DriverFactory, options: DriverSuiteOptions): Promise<Scene> {
    const home = options.makeHome();
    return new Scene(home, factory, options, await factory.open(home, options.driverOptions ?? {}));
  }

  async reopen(): Promise<void> {
    this.driver = await this.factory.open(this.home, this.options.driverOptions ?? {});
  }

  /** A new layer on `parent`, filled by `fill` without a mount where it is a base, through one otherwise. */
  async layer(parent?: LayerId, fill?: (root: string) => void): Promise<LayerId> {
    const id = newLayerId();
    await this.driver.create(id, parent);
    if (fill !== undefined) await this.change(id, fill);
    return id;
  }

  async change(id: LayerId, fill: (root: string) => void): Promise<void> {
    await using mounted = await this.driver.mount(id);
    assert.equal(mounted.readOnly, false);
    fill(mounted.path);
  }

  async read<T>(id: LayerId, look: (root: string) => T): Promise<T> {
    await using mounted = await this.driver.mount(id, { readOnly: true });
    return look(mounted.path);
  }

  /** Mounts below the home once nobody uses any. */
  async mountsLeft(): Promise<string[]> {
    await this.driver.rest();
    return readMountInfo()
      .map((mount) => mount.mountPoint)
      .filter((point) => point.startsWith(`${this.home}/`));
  }

  async spawn(task: "hold" | "cycle" | "churn", id: LayerId): Promise<ChildProcessWithoutNullStreams> {
    const script = fileURLToPath(workerUrl(import.meta.url, "./driver-process"));
    const child = spawn(process.execPath, [...process.execArgv, script, task, this.driver.name, this.home, id]);
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => {
      complaint += chunk.toString();
    });
    await Promise.race([
      once(child.stdout, "data"),
      once(child, "exit").then(() => assert.fail(`the other process ended: ${complaint}`)),
    ]);
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const left = await this.mountsLeft();
    for (const id of await this.driver.list()) await this.driver.unmountAll(id);
    rmSync(this.home, { recursive: true, force: true });
    assert.deepEqual(left, [], "mounts are left");
  }
}

async function refuses(kind: Parameters<typeof isLamellaError>[1], body: Promise<unknown>): Promise<void> {
  await assert.rejects(body, (error) => isLamellaError(error, kind as never) || assert.fail(`${error}, not ${kind}`));
}

function lifecycle(scene: SceneTest): void {
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

/** A tree with one of everything a layer can hold. */
function furnish(root: string, privileged: boolean): void {
  const own = (path: string, uid: number, gid: number): void => {
    if (privileged) chownSync(path, uid, gid);
  };
  mkdirSync(`${root}/bin`);
  writeFileSync(`${root}/bin/su`, "#!/bin/sh\n");
  own(`${root}/bin/su`, 0, 12);
  chmodSync(`${root}/bin/su`, 0o6755);
  mkdirSync(`${root}/tmp`);
  chmodSync(`${root}/tmp`, 0o1777);
  mkdirSync(`${root}/home`);
  writeFileSync(`${root}/home/read-only`, "r");
  own(`${root}/home/read-only`, 1000, 1001);
  chmodSync(`${root}/home/read-only`, 0o400);
  linkSync(`${root}/home/read-only`, `${root}/linked`);
  symlinkSync("home/read-only", `${root}/symlink`);
  symlinkSync("/nowhere", `${root}/dangling`);
  writeFileSync(`${root}/sparse`, "start");
  truncateSync(`${root}/sparse`, 8 << 20);
  writeFileSync(Buffer.from(`${root}/not-utf8-\xff\xfe`, "latin1"), "bytes");
  sys.mknodat(AT_FDCWD, `${root}/fifo`, S_IFIFO | 0o640);
  if (privileged) sys.mknodat(AT_FDCWD, `${root}/device`, S_IFCHR | 0o666, 1, 3);
  sys.lsetxattrat(AT_FDCWD, `${root}/home`, "user.note", Buffer.from([0, 255, 1]));
  sys.utimensat(AT_FDCWD, `${root}/tmp`, { atimeSec: 1, atimeNsec: 2, mtimeSec: 1234567890, mtimeNsec: 123456789 });
  sys.utimensat(AT_FDCWD, root, { atimeSec: 1, atimeNsec: 2, mtimeSec: 987654321, mtimeNsec: 5 });
  chmodSync(root, 0o751);
}

function trees(scene: SceneTest, { privileged, metadataCopies, renamesLowerDirectories }: DriverSuiteOptions): void {
  scene("shows a child exactly its parent's tree", async (s) => {
    const base = await s.layer(undefined, (root) => furnish(root, privileged));
    const expected = await s.read(base, listTree);
    const child = await s.layer(base);
    const grandchild = await s.layer(child);
    for (const id of [base, child, grandchild]) assert.deepEqual(await s.read(id, listTree), expected);
    const blocks = await s.read(grandchild, (root) => statSync(`${root}/sparse`).blocks);
    assert.ok(blocks * 512 < 1 << 20, `a sparse file of 8 MiB takes ${blocks} blocks`);
  });

  scene("keeps what a child does away from its parent", async (s) => {
    const base = await s.layer(undefined, (root) => {
      furnish(root, privileged);
      mkdirSync(`${root}/dir`);
      writeFileSync(`${root}/dir/old`, "old");
      writeFileSync(`${root}/becomes-dir`, "file");
      mkdirSync(`${root}/becomes-file`);
      writeFileSync(`${root}/becomes-file/x`, "x");
    });
    const before = await s.read(base, listTree);
    const child = await s.layer(base, (root) => {
      rmSync(`${root}/dir`, { recursive: true });
      mkdirSync(`${root}/dir`);
      writeFileSync(`${root}/dir/new`, "new");
      rmSync(`${root}/becomes-dir`);
      mkdirSync(`${root}/becomes-dir`);
      writeFileSync(`${root}/becomes-dir/y`, "y");
      rmSync(`${root}/becomes-file`, { recursive: true });
      writeFileSync(`${root}/becomes-file`, "now a file");
      rmSync(`${root}/bin`, { recursive: true });
      writeFileSync(Buffer.from(`${root}/not-utf8-\xff\xfe`, "latin1"), "changed");
      writeFileSync(`${root}/linked`, "one name of two", { flag: "a" });
    });
    const changed = await s.read(child, listTree);
    const grandchild = await s.layer(child);
    assert.deepEqual(await s.read(base, listTree), before);
    await s.read(grandchild, (root) => {
      assert.deepEqual(listTree(root), changed);
      assert.deepEqual(readdirSync(`${root}/dir`), ["new"]);
      assert.deepEqual(readdirSync(`${root}/becomes-dir`), ["y"]);
      assert.equal(readFileSync(`${root}/becomes-file`, "utf8"), "now a file");
      assert.throws(
        () => lstatSync(`${root}/bin`),
        (error) => hasCode(error, "ENOENT"),
      );
    });
  });

  if (renamesLowerDirectories)
    scene("renames a directory of a lower layer without copying it", async (s) => {
      const base = await s.layer(undefined, (root) => {
        mkdirSync(`${root}/big`);
        writeFileSync(`${root}/big/data`, Buffer.alloc(4 << 20, 7));
      });
      const child = await s.layer(base, (root) => renameSync(`${root}/big`, `${root}/moved`));
      await s.read(child, (root) => {
        assert.deepEqual(readdirSync(root), ["moved"]);
        assert.equal(statSync(`${root}/moved/data`).size, 4 << 20);
      });
      if (s.driver.capabilities.stacks) assert.ok((await s.driver.usage(child)).sizeBytes < 1 << 20);
    });

  if (metadataCopies)
    scene("changes the owner of a lower tree without copying data", async (s) => {
      const base = await s.layer(undefined, (root) => {
        mkdirSync(`${root}/dir`);
        for (let i = 0; i < 8; i++) writeFileSync(`${root}/dir/${i}`, Buffer.alloc(1 << 20, i));
      });
      const child = await s.layer(base, (root) => execFileSync("chown", ["-R", "7:8", root]));
      const top = await s.layer(child, (root) => renameSync(`${root}/dir/3`, `${root}/three`));
      await s.read(top, (root) => {
        assert.equal(statSync(`${root}/dir/5`).uid, 7);
        assert.deepEqual(readFileSync(`${root}/dir/5`), Buffer.alloc(1 << 20, 5));
        assert.deepEqual(readFileSync(`${root}/three`), Buffer.alloc(1 << 20, 3));
      });
      for (const id of [child, top]) assert.ok((await s.driver.usage(id)).sizeBytes < 1 << 20);
    });

  scene("says what a layer takes as du does", async (s) => {
    const base = await s.layer(undefined, (root) => furnish(root, privileged));
    const child = await s.layer(base, (root) => {
      for (let i = 0; i < 90; i++) {
        mkdirSync(`${root}/d${i}`);
        writeFileSync(`${root}/d${i}/file`, Buffer.alloc(5000));
      }
    });
    for (const id of [base, child]) {
      const directory = s.options.layerDirectory(s.home, id);
      const du = (...options: string[]): number =>
        Number.parseInt(execFileSync("du", ["-s", ...options, directory], { encoding: "utf8" }), 10);
      // btrfs and xfs count blocks when they allocate them, not before.
      using opened = sys.open(directory, O_RDONLY);
      sys.syncfs(opened.fd);
      assert.deepEqual(await s.driver.usage(id), { sizeBytes: du("-B1"), inodes: du("--inodes") });
    }
  });
}

function stacks(scene: SceneTest, { depth = 128 }: DriverSuiteOptions): void {
  scene(`stacks ${depth} layers`, async (s) => {
    let top: LayerId | undefined;
    for (let i = 0; i < depth; i++) {
      top = await s.layer(top);
      await using target = await s.driver.applyTarget(top);
      writeFileSync(`${target.value.root}/f${i}`, String(i));
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

function mounts(scene: SceneTest): void {
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

function processes(scene: SceneTest): void {
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
    const base = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
    for (let i = 0; i < 3; i++) {
      const child = await s.spawn("churn", base);
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
