/** overlay2 by itself: Docker's layout, options, probes on file systems that lack something, choosing a driver. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Driver, LayerId } from "../../src/drivers/driver.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { mountView } from "../../src/drivers/mount-view.ts";
import { openDriver, probeAll } from "../../src/drivers/open-driver.ts";
import { overlay2Factory } from "../../src/drivers/overlay2/factory.ts";
import { isLamellaError, LamellaError } from "../../src/errors/lamella-error.ts";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { umount } from "../../src/fs/mounts.ts";
import { inUserNamespace, privateMounts } from "../support/overlay-lab.ts";

interface Bench extends Disposable {
  readonly path: string;
}

function bench(t: TestContext): Bench | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const path = mkdtempSync(join(tmpdir(), "lamella-overlay2-"));
  return {
    path,
    [Symbol.dispose]: () => {
      umount(join(path, "mnt"));
      rmSync(path, { recursive: true });
    },
  };
}

async function layer(driver: Driver, parent: LayerId | undefined, fill: (root: string) => void): Promise<LayerId> {
  const id = newLayerId();
  await driver.create(id, parent);
  await using mounted = await driver.mount(id);
  fill(mounted.path);
  return id;
}

function mode(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8);
}

test("lays files out as Docker does", async (t) => {
  using at = bench(t);
  if (!at) return;
  const home = join(at.path, "overlay2");
  const driver = await overlay2Factory.open(home, {});
  const base = newLayerId();
  const child = newLayerId();
  await driver.create(base, undefined);
  assert.equal(existsSync(`${home}/${base}/committed`), false);
  await driver.create(child, base);
  const top = newLayerId();
  await driver.create(top, child);
  const [linkBase, linkChild] = [base, child].map((id) => readFileSync(`${home}/${id}/link`, "utf8"));
  assert.match(linkBase ?? "", /^[A-Z2-7]{26}$/);
  assert.equal(readlinkSync(`${home}/l/${linkChild}`), `../${child}/diff`);
  assert.equal(readFileSync(`${home}/${top}/lower`, "utf8"), `l/${linkChild}:l/${linkBase}`);
  assert.deepEqual(readdirSync(`${home}/${base}`).sort(), ["committed", "diff", "link", "options"]);
  assert.deepEqual(readdirSync(`${home}/${top}`).sort(), ["diff", "link", "lower", "options", "work"]);
  assert.equal(statSync(`${home}/${base}/committed`).size, 0);
  const modes = [
    ["", "710"],
    ["/l", "700"],
    [`/${child}`, "710"],
    [`/${child}/diff`, "755"],
    [`/${child}/work`, "700"],
    [`/${child}/link`, "644"],
    [`/${child}/lower`, "644"],
    [`/${child}/committed`, "600"],
  ] as const;
  for (const [path, expected] of modes) assert.equal(mode(home + path), expected, path);
  await using mounted = await driver.mount(top);
  assert.equal(mounted.path, `${home}/${top}/merged`);
});

test("uses layers Docker wrote, which have no file of options", async (t) => {
  using at = bench(t);
  if (!at) return;
  const home = join(at.path, "overlay2");
  const driver = await overlay2Factory.open(home, {});
  const [lower, upper] = [newLayerId(), newLayerId()];
  mkdirSync(`${home}/${lower}/diff/dir`, { recursive: true });
  writeFileSync(`${home}/${lower}/diff/dir/file`, "docker");
  writeFileSync(`${home}/${lower}/link`, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  writeFileSync(`${home}/${lower}/committed`, "");
  symlinkSync(`../${lower}/diff`, `${home}/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ`);
  mkdirSync(`${home}/${upper}/diff`, { recursive: true });
  mkdirSync(`${home}/${upper}/work`);
  writeFileSync(`${home}/${upper}/link`, "234567ABCDEFGHIJKLMNOPQRST");
  writeFileSync(`${home}/${upper}/lower`, "l/ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  symlinkSync(`../${upper}/diff`, `${home}/l/234567ABCDEFGHIJKLMNOPQRST`);
  assert.equal(driver.parentOf(upper), lower);
  const child = await layer(driver, upper, (root) => renameSync(`${root}/dir`, `${root}/moved`));
  await using mounted = await driver.mount(child);
  assert.equal(readFileSync(`${mounted.path}/moved/file`, "utf8"), "docker");
  assert.deepEqual((await driver.diffSource(child)).value, {
    kind: "upper",
    upper: `${home}/${child}/diff`,
    lowers: [`${home}/${upper}/diff`, `${home}/${lower}/diff`],
    prefix: "trusted.overlay.",
  });
});

test("reads layers with redirects and metacopy whatever the options are today", async (t) => {
  using at = bench(t);
  if (!at) return;
  if (inUserNamespace()) return t.skip("neither can be written in a user namespace");
  const home = join(at.path, "overlay2");
  const on = await overlay2Factory.open(home, {});
  const base = await layer(on, undefined, (root) => {
    mkdirSync(`${root}/dir`);
    writeFileSync(`${root}/dir/file`, "content");
  });
  const changed = await layer(on, base, (root) => {
    chmodSync(`${root}/dir/file`, 0o600);
    renameSync(`${root}/dir`, `${root}/moved`);
  });
  const off = await overlay2Factory.open(home, { "overlay2.redirect_dir": "off", "overlay2.metacopy": "off" });
  const read = async (driver: Driver, id: LayerId): Promise<void> => {
    for (const readOnly of [true, false]) {
      await using mounted = await driver.mount(id, { readOnly });
      assert.equal(readFileSync(`${mounted.path}/moved/file`, "utf8"), "content");
      assert.equal(mode(`${mounted.path}/moved/file`), "600");
    }
  };
  const above = await layer(off, changed, (root) => writeFileSync(`${root}/new`, "x"));
  for (const driver of [on, off]) for (const id of [changed, above]) await read(driver, id);
  // On a chain that never had them, the options hold.
  const plain = await layer(off, await layer(off, undefined, (root) => mkdirSync(`${root}/dir`)), () => {});
  await using mounted = await off.mount(plain);
  assert.throws(() => renameSync(`${mounted.path}/dir`, `${mounted.path}/moved`), { code: "EXDEV" });
});

test("a volatile view syncs nothing, and its layer mounts again after a crash", async (t) => {
  using at = bench(t);
  if (!at) return;
  const driver = await overlay2Factory.open(join(at.path, "overlay2"), {});
  const base = newLayerId();
  const id = newLayerId();
  await driver.create(base, undefined);
  await driver.create(id, base);
  const target = join(at.path, "mnt");
  mkdirSync(target);
  const { value: view } = await driver.view(id, { volatile: true });
  for (const name of ["first", "second"]) {
    using _ = mountView(view, target);
    assert.match(readMountInfo().findLast((mount) => mount.mountPoint === target)?.superOptions ?? "", /volatile/);
    writeFileSync(join(target, name), name);
  }
  // Nothing cleaned up after the mount: as a crash leaves it.
  mountView(view, target);
  umount(target);
  await using mounted = await driver.mount(id);
  assert.deepEqual(readdirSync(mounted.path).sort(), ["first", "second"]);
  assert.equal((await driver.view(id, { volatile: true, readOnly: true })).value.kind, "overlay");
});

test("refuses options it does not know, and those the host cannot give", async (t) => {
  using at = bench(t);
  if (!at) return;
  const home = join(at.path, "overlay2");
  const refused = async (
    options: Record<string, string>,
    kind: "invalid_argument" | "failed_precondition",
    text: RegExp,
  ) =>
    assert.rejects(overlay2Factory.open(home, options), (error) => {
      assert.ok(error instanceof LamellaError && error.kind === kind, String(error));
      assert.match(`${error.message} ${error.hint}`, text);
      return true;
    });
  await refused({ "overlay2.sise": "10G" }, "invalid_argument", /known are overlay2\.size, overlay2\.redirect_dir/);
  await refused({ "overlay2.size": "big" }, "invalid_argument", /such as 10G/);
  await refused({ "overlay2.metacopy": "yes" }, "invalid_argument", /on or off/);
  await refused({ "overlay2.metacopy": "on", "overlay2.redirect_dir": "off" }, "invalid_argument", /couples/);
  const driver = await overlay2Factory.open(home, {});
  if (driver.capabilities.quota) return;
  await refused({ "overlay2.size": "10G" }, "failed_precondition", /Storage [oO]ption overlay2\.size/);
  await assert.rejects(driver.create(newLayerId(), undefined, { sizeBytes: 1 << 30 }), (error) => {
    assert.ok(error instanceof LamellaError && error.code === "QUOTA_UNSUPPORTED", String(error));
    assert.equal(error.message, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    return true;
  });
  assert.deepEqual(await driver.list(), []);
});

test("prints status as docker info does, asks the host once, and leaves nothing of a probe", async (t) => {
  using at = bench(t);
  if (!at) return;
  const home = join(at.path, "overlay2");
  const probes = await overlay2Factory.probe(home);
  assert.deepEqual(readdirSync(at.path), []);
  assert.deepEqual(
    probes.filter((probe) => !probe.ok && probe.required),
    [],
  );
  for (const probe of probes) assert.equal(probe.remedy === undefined, probe.ok, probe.name);
  const driver = await overlay2Factory.open(home, {});
  assert.deepEqual(
    driver.status().map(([key]) => key),
    ["Backing Filesystem", "Supports d_type", "Using metacopy", "Native Overlay Diff", "userxattr"],
  );
  const remembered = statSync(`${home}/.lamella/probes.json`).mtimeMs;
  await overlay2Factory.open(home, {});
  assert.equal(statSync(`${home}/.lamella/probes.json`).mtimeMs, remembered);
  assert.deepEqual(readdirSync(home).sort(), [".lamella", "l"]);
});

test("says why it does not work on a file system without d_type, and on another overlay", async (t) => {
  using at = bench(t);
  if (!at) return;
  if (inUserNamespace()) return t.skip("loop devices cannot be had in a user namespace");
  const mnt = join(at.path, "mnt");
  mkdirSync(mnt);
  const image = join(at.path, "ext4.img");
  execFileSync("truncate", ["-s", "32M", image]);
  const made = spawnSync("mkfs.ext4", ["-q", "-O", "^filetype", image], { encoding: "utf8" });
  if (made.status !== 0) return t.skip(`mkfs.ext4: ${made.stderr}`);
  execFileSync("mount", ["-o", "loop", image, mnt]);
  const probes = await overlay2Factory.probe(`${mnt}/overlay2`);
  assert.equal(probes.find((probe) => probe.name === "d_type")?.ok, false);
  await assert.rejects(openDriver({ root: mnt, name: "overlay2" }), (error) => {
    assert.ok(error instanceof LamellaError && error.code === "DRIVER_UNSUPPORTED", String(error));
    assert.match(error.message, /d_type/);
    return true;
  });
  assert.deepEqual(readdirSync(mnt), ["lost+found"]);
  const vfs = await openDriver({ root: mnt, name: "vfs" });
  await vfs.create(newLayerId(), undefined);
  assert.equal((await openDriver({ root: mnt })).name, "vfs");
  await assert.rejects(openDriver({ root: mnt, name: "overlay2" }), (error) =>
    isLamellaError(error, "failed_precondition"),
  );
  umount(mnt);

  for (const name of ["lower", "upper", "work"]) mkdirSync(join(at.path, name));
  const options = `lowerdir=${at.path}/lower,upperdir=${at.path}/upper,workdir=${at.path}/work`;
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, mnt]);
  await assert.rejects(openDriver({ root: mnt, name: "overlay2" }), (error) => {
    assert.ok(error instanceof LamellaError && error.code === "DRIVER_UNSUPPORTED", String(error));
    assert.match(error.message, /not supported as upperdir/);
    return true;
  });
  const reasons = (await probeAll(mnt)).get("overlay2") ?? [];
  assert.match(reasons.find((probe) => probe.name === "overlay_mount")?.reason ?? "", /upperdir/);
  assert.match(reasons.find((probe) => probe.name === "backing_file_system")?.reason ?? "", /overlayfs/);
});

test("knows its drivers by name", async (t) => {
  using at = bench(t);
  if (!at) return;
  await assert.rejects(openDriver({ root: at.path, name: "overlay22" }), (error) => {
    assert.ok(error instanceof LamellaError && error.kind === "invalid_argument");
    assert.match(error.hint ?? "", /did you mean overlay2\? known are .*, vfs/);
    return true;
  });
  assert.equal((await openDriver({ root: at.path })).name, "overlay2");
});

test("deletes what crashed creations and removals left, and nothing else", async (t) => {
  using at = bench(t);
  if (!at) return;
  const home = join(at.path, "overlay2");
  const driver = await overlay2Factory.open(home, {});
  const base = await layer(driver, undefined, (root) => writeFileSync(`${root}/file`, "x"));
  mkdirSync(`${home}/.${newLayerId()}-creating-0a1b2c3d/diff/deep`, { recursive: true });
  mkdirSync(`${home}/.${newLayerId()}-removing-0a1b2c3d/diff`, { recursive: true });
  for (let i = 0; i < 700; i++) mkdirSync(`${home}/.${base}-removing-00000000/${i}`, { recursive: true });
  symlinkSync(`../${newLayerId()}/diff`, `${home}/l/AAAAAAAAAAAAAAAAAAAAAAAAAA`);
  assert.equal(await driver.reclaim(), 4);
  assert.deepEqual(readdirSync(home).sort(), [".lamella", base, "l"].sort());
  assert.equal(readdirSync(`${home}/l`).length, 1);
  await using mounted = await driver.mount(base);
  assert.equal(readFileSync(`${mounted.path}/file`, "utf8"), "x");
  assert.equal(await driver.reclaim(), 0);
});
