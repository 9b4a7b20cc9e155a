/** The driver devicemapper by itself, in a machine that has a device mapper; the suite is in devicemapper-suite.test.ts. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { after, test } from "node:test";
import { devicemapperFactory } from "../../../src/drivers/devicemapper/factory.ts";
import type { Driver, LayerId } from "../../../src/drivers/driver.ts";
import { newLayerId } from "../../../src/drivers/layer-id.ts";
import { LamellaError } from "../../../src/errors/lamella-error.ts";
import { hasCode } from "../../../src/errors/syscall-error.ts";
import { readMountInfo } from "../../../src/fs/mountinfo.ts";
import * as dm from "../../../src/sys/device-mapper.ts";
import { attachLoop } from "../../../src/sys/loop.ts";
import { bringUpPool, devicesOfHost, type Options, poolFolder, sizes, Template } from "../../support/thin-pools.ts";

const templates = { ext4: await Template.make({ "dm.fs": "ext4" }), xfs: await Template.make({ "dm.fs": "xfs" }) };
after(() => {
  for (const template of Object.values(templates)) template.remove();
});

/** A driver in a home of its own; at the end nothing of it may be left on the host. */
class Bench implements AsyncDisposable {
  readonly home: string;
  driver!: Driver;
  readonly #options: Options;
  readonly #hostBefore = devicesOfHost();
  readonly #drivers: Driver[] = [];

  private constructor(home: string, options: Options) {
    this.home = home;
    this.#options = options;
  }

  static async open(home: string, options: Options): Promise<Bench> {
    const bench = new Bench(home, options);
    await bench.reopen();
    return bench;
  }

  async reopen(more: Options = {}): Promise<void> {
    this.driver = await devicemapperFactory.open(this.home, { ...this.#options, ...more });
    this.#drivers.push(this.driver);
  }

  async layer(parent?: LayerId, fill?: (root: string) => void, sizeBytes?: number): Promise<LayerId> {
    const id = newLayerId();
    await this.driver.create(id, parent, sizeBytes === undefined ? {} : { sizeBytes });
    if (fill !== undefined) await this.change(id, fill);
    return id;
  }

  async change(id: LayerId, fill: (root: string) => void): Promise<void> {
    await using mounted = await this.driver.mount(id);
    fill(mounted.path);
  }

  async hintOf(id: LayerId): Promise<string | undefined> {
    await using source = await this.driver.diffSource(id);
    return source.value.kind === "trees" ? source.value.hint?.kind : undefined;
  }

  /** A line of the status. */
  status(key: string): string | undefined {
    return this.driver.status().find(([name]) => name === key)?.[1];
  }

  /** What device mapper calls the device of a layer, or the pool. */
  device(of: string): string {
    const { dev, ino } = statSync(this.home);
    const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
    return `lamella-${major}:${minor}-${ino}-${of}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const driver of this.#drivers) await driver.rest();
    const mounts = readMountInfo().filter(({ mountPoint }) => mountPoint.startsWith(this.home));
    assert.deepEqual(mounts, []);
    assert.deepEqual(devicesOfHost(), this.#hostBefore);
    rmSync(this.home, { recursive: true });
  }
}

function bench(fileSystem: "ext4" | "xfs", options: Options = {}): Promise<Bench> {
  const template = templates[fileSystem];
  return Bench.open(template.copy(), { ...template.options, ...options });
}

async function refuses(body: Promise<unknown>, kind: LamellaError["kind"], text: RegExp): Promise<void> {
  await assert.rejects(body, (error) => {
    assert.ok(error instanceof LamellaError && error.kind === kind, `${error}`);
    assert.match(`${error.message} ${error.hint}`, text);
    return true;
  });
}

for (const fileSystem of ["ext4", "xfs"] as const) {
  test(`${fileSystem}: keeps layers apart, and tells what changed without looking`, async () => {
    await using s = await bench(fileSystem, { "dm.mountopt": "noatime" });
    const base = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, Buffer.alloc(200_000, 1)));
    const child = await s.layer(base, (root) => writeFileSync(`${root}/own`, Buffer.alloc(300_000, 2)));
    const untouched = await s.layer(base);
    const seen = await s.layer(base, (root) => assert.equal(readFileSync(`${root}/file`).length, 200_000));
    const small = await s.layer(base, (root) => writeFileSync(`${root}/file`, "y", { flag: "r+" }));
    await s.change(child, (root) => assert.deepEqual(readdirSync(root), ["file", "own"]));
    {
      await using below = await s.driver.mount(base);
      assert.deepEqual(readdirSync(below.path), ["file"]);
      assert.equal(below.readOnly, true);
    }
    assert.equal(await s.hintOf(base), undefined);
    // Once with the devices mounted, once without.
    for (const rest of [async () => undefined, () => s.driver.rest()]) {
      await rest();
      assert.equal(await s.hintOf(child), "clone");
      assert.equal(await s.hintOf(small), "clone");
      assert.equal(await s.hintOf(untouched), "none");
      assert.equal(await s.hintOf(seen), "none");
    }
    const { sizeBytes, inodes } = await s.driver.usage(child);
    assert.ok(sizeBytes >= 300_000 && sizeBytes < 6 << 20, String(sizeBytes));
    assert.equal(inodes, 1);
  });

  test(`${fileSystem}: gives a layer the size asked for`, async () => {
    await using s = await bench(fileSystem);
    const sizeOf = async (id: LayerId): Promise<number> => {
      await using mounted = await s.driver.mount(id);
      const { blocks, bsize } = statfsSync(mounted.path);
      return blocks * bsize;
    };
    const base = await s.layer();
    const large = await s.layer(base, undefined, 500 << 20);
    const above = await s.layer(large);
    const [one, two] = [await sizeOf(base), await sizeOf(large)];
    assert.ok(one < 300 << 20 && two > one + (150 << 20), `${one} ${two}`);
    assert.equal(await sizeOf(above), two);
    await refuses(s.layer(base, undefined, 100 << 20), "invalid_argument", /cannot be smaller than 314\.6MB/);
    assert.equal((await s.driver.list()).length, 3);

    await s.reopen({ "dm.basesize": "400M" });
    assert.equal(s.status("Base Device Size"), "419.4MB");
    const fresh = await s.layer();
    assert.ok((await sizeOf(fresh)) > one + (60 << 20));
    assert.equal(await sizeOf(base), one);
    await refuses(s.reopen({ "dm.basesize": "200M" }), "invalid_argument", /cannot be smaller than 419\.4MB/);
    await s.reopen({ "dm.basesize": "400M" });
  });
}

test("prints status as docker info does", async () => {
  await using s = await bench("ext4");
  await s.layer();
  const pool = s.device("pool");
  const [, loops] = [pool, `${s.home}/devicemapper`];
  const lines = s.driver.status();
  const value = new Map(lines);
  assert.deepEqual(
    lines.map(([key]) => key),
    [
      ...["Pool Name", "Pool Blocksize", "Base Device Size", "Backing Filesystem", "Udev Sync Supported"],
      ...["Data file", "Metadata file", "Data loop file", "Metadata loop file"],
      ...["Data Space Used", "Data Space Total", "Data Space Available"],
      ...["Metadata Space Used", "Metadata Space Total", "Metadata Space Available"],
      ...["Thin Pool Minimum Free Space", "Deferred Removal Enabled", "Deferred Deletion Enabled"],
      "Deferred Deleted Device Count",
    ],
  );
  const expected = {
    "Pool Name": pool,
    "Pool Blocksize": "65.54kB",
    "Base Device Size": "314.6MB",
    "Backing Filesystem": "ext4",
    "Data loop file": `${loops}/data`,
    "Metadata loop file": `${loops}/metadata`,
    "Data Space Total": "1.074GB",
    "Metadata Space Total": "16.78MB",
    "Thin Pool Minimum Free Space": "107.3MB",
    "Deferred Removal Enabled": "true",
    "Deferred Deletion Enabled": "true",
    "Deferred Deleted Device Count": "0",
  };
  for (const [key, text] of Object.entries(expected)) assert.equal(value.get(key), text, key);
  assert.match(value.get("Data file") ?? "", /^\/dev\/loop\d+$/);
});

test("refuses new layers when too little of the pool is free, in Docker's words", async () => {
  await using s = await bench("ext4");
  const id = await s.layer();
  await s.reopen({ "dm.min_free_space": "99%" });
  const text =
    /Thin Pool has \d+ free data blocks which is less than minimum required 16220 free data blocks\. Create more/;
  await refuses(s.layer(), "resource_exhausted", text);
  await refuses(s.layer(id), "resource_exhausted", text);
  assert.deepEqual(await s.driver.list(), [id]);
  await s.reopen({ "dm.min_free_space": "0%" });
  await s.layer(id);
});

test("rolls back what was not finished when a process was killed", async () => {
  await using s = await bench("ext4");
  const id = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
  const pool = s.device("pool");
  const poolId = (): number => Number(dm.status(pool)[0]?.parameters.split(" ")[0]);
  const half = newLayerId();
  const leave = (deviceId: number): void => {
    const transaction = {
      open_transaction_id: poolId() + 1,
      device_hash: `.${half}-creating-0badcafe`,
      device_id: deviceId,
    };
    writeFileSync(`${s.home}/metadata/transaction-metadata`, JSON.stringify(transaction));
  };
  // Killed with the device made and its record written.
  leave(77);
  dm.message(pool, "create_thin 77");
  const record = { device_id: 77, size: 314572800, transaction_id: poolId() + 1, initialized: false, deleted: false };
  writeFileSync(`${s.home}/metadata/.${half}-creating-0badcafe`, JSON.stringify(record));
  const before = poolId();
  const child = await s.layer(id);
  assert.equal(poolId(), before + 1);
  assert.equal(existsSync(`${s.home}/metadata/.${half}-creating-0badcafe`), false);
  assert.throws(
    () => dm.message(pool, "delete 77"),
    (error) => hasCode(error, "ENODATA"),
  );
  // Killed while it tried a number that another layer has.
  leave((JSON.parse(readFileSync(`${s.home}/metadata/${id}`, "utf8")) as { device_id: number }).device_id);
  // Killed while the origin was suspended and a metadata snapshot held.
  const mounted = await s.driver.mount(child);
  dm.suspend(s.device(child));
  dm.message(pool, "reserve_metadata_snap");
  writeFileSync(`${s.home}/.lamella/interrupted`, "");
  await s.driver.usage(id);
  writeFileSync(`${mounted.path}/goes-on`, "x");
  await mounted[Symbol.asyncDispose]();
  assert.match(dm.status(pool)[0]?.parameters ?? "", /^\d+ \d+\/\d+ \d+\/\d+ - /);
  await s.change(await s.layer(id), (root) => assert.equal(readFileSync(`${root}/file`, "utf8"), "x"));
  assert.deepEqual((await s.driver.list()).includes(half), false);
});

/** A process that keeps a directory's file system in use from a mount namespace of its own. */
async function holdElsewhere(path: string): Promise<() => Promise<void>> {
  const child = spawn("unshare", ["-m", "sh", "-c", 'cd "$0" && echo here && read line', path]);
  await once(child.stdout, "data");
  return async () => {
    const exited = once(child, "exit");
    child.stdin.end();
    await exited;
  };
}

test("deletes a device that is busy another time", async () => {
  await using s = await bench("ext4");
  const id = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
  const mounted = await s.driver.mount(id);
  const release = await holdElsewhere(mounted.path);
  await mounted[Symbol.asyncDispose]();
  await s.driver.remove(id);
  assert.equal(s.driver.exists(id), false);
  assert.equal(s.status("Deferred Deleted Device Count"), "1");
  assert.equal(await s.driver.reclaim(), 0);
  await release();
  assert.equal(await s.driver.reclaim(), 1);
  assert.equal(s.status("Deferred Deleted Device Count"), "0");
});

test("refuses to remove a layer that is busy, where that is asked for", async () => {
  await using s = await bench("ext4", { "dm.use_deferred_removal": "false" });
  assert.equal(s.status("Deferred Removal Enabled"), "false");
  const id = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
  const mounted = await s.driver.mount(id);
  const release = await holdElsewhere(mounted.path);
  await mounted[Symbol.asyncDispose]();
  await refuses(
    s.driver.remove(id),
    "failed_precondition",
    /thin device of layer .* is in use .*dm\.use_deferred_deletion/,
  );
  assert.equal(s.driver.exists(id), true);
  await release();
  await s.driver.remove(id);
  assert.equal(await s.driver.reclaim(), 0);
});

test("gives the blocks of removed layers back to the loop file", async () => {
  await using s = await bench("ext4");
  const data = `${s.home}/devicemapper/data`;
  const used = (): number => statSync(data).blocks * 512;
  const id = await s.layer();
  const before = used();
  await s.change(id, (root) => writeFileSync(`${root}/file`, Buffer.alloc(32 << 20, 1)));
  await s.driver.rest();
  assert.ok(used() > before + (31 << 20));
  await s.driver.remove(id);
  await s.driver.rest();
  assert.ok(used() < before + (4 << 20), `${before} ${used()}`);
});

test("limits how often xfs tries again", async () => {
  await using s = await bench("xfs", { "dm.xfs_nospace_max_retries": "0" });
  const id = await s.layer();
  await using _mounted = await s.driver.mount(id);
  const { minor } = dm.find(s.device(id)) ?? {};
  assert.equal(readFileSync(`/sys/fs/xfs/dm-${minor}/error/metadata/ENOSPC/max_retries`, "utf8").trim(), "0");
});

test("uses a pool that is ready, and no other than before", async () => {
  const folder = poolFolder();
  const options = { ...sizes, "dm.fs": "ext4", "dm.thinpooldev": "/dev/mapper/test-pool" };
  const home = mkdtempSync("/var/tmp/dm-");
  await refuses(devicemapperFactory.open(home, options), "failed_precondition", /thin pool test-pool is not there/);
  using _pool = bringUpPool("test-pool", folder);
  {
    await using s = await Bench.open(home, options);
    const id = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
    await s.layer(id);
    assert.equal(s.status("Pool Name"), "test-pool");
    assert.equal(s.status("Data file"), undefined);
    assert.equal(s.status("Data loop file"), undefined);
    const second = mkdtempSync("/var/tmp/dm-");
    await refuses(
      devicemapperFactory.open(second, options),
      "failed_precondition",
      /Unable to take ownership of thin-pool \(test-pool\) that already has used data blocks/,
    );
    const facts = `${s.home}/metadata/deviceset-metadata`;
    const text = readFileSync(facts, "utf8");
    writeFileSync(facts, text.replace(/"BaseDeviceUUID":"..../, '"BaseDeviceUUID":"ffff'));
    await s.reopen();
    await refuses(s.layer(), "failed_precondition", /UUID and Filesystem verification failed/);
    writeFileSync(facts, text);
    await s.layer();
    rmSync(second, { recursive: true });
  }
  rmSync(folder, { recursive: true });
});

test("makes a pool over block devices given", async () => {
  const folder = poolFolder();
  for (const name of ["data", "metadata"]) execFileSync("truncate", ["-s", "1G", `${folder}/${name}`]);
  {
    using data = attachLoop(`${folder}/data`);
    using metadata = attachLoop(`${folder}/metadata`);
    const devices = { "dm.datadev": data.path, "dm.metadatadev": metadata.path };
    const options = { ...sizes, ...devices, "dm.blocksize": "128K", "dm.fs": "ext4" };
    await using s = await Bench.open(mkdtempSync("/var/tmp/dm-"), options);
    await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
    assert.equal(s.status("Data file"), data.path);
    assert.equal(s.status("Metadata file"), metadata.path);
    assert.equal(s.status("Data loop file"), undefined);
    assert.equal(s.status("Pool Blocksize"), "131.1kB");
    assert.deepEqual(readdirSync(`${s.home}/devicemapper`), []);
  }
  rmSync(folder, { recursive: true });
});

/** The machine has none: LVM is to make its nodes itself. */
const withoutUdev = { ...process.env, DM_DISABLE_UDEV: "1" };

test("sets up a pool with LVM (direct-lvm)", async () => {
  const folder = poolFolder();
  execFileSync("truncate", ["-s", "2G", `${folder}/disk`]);
  using disk = attachLoop(`${folder}/disk`);
  execFileSync("mkfs.ext4", ["-q", "-F", disk.path, "64M"]);
  const home = mkdtempSync("/var/tmp/dm-");
  const options = {
    ...{ "dm.directlvm_device": disk.path, "dm.thinp_percent": "90%", "dm.thinp_metapercent": "2", "dm.fs": "ext4" },
    ...{ "dm.thinp_autoextend_threshold": "70", "dm.basesize": "300M" },
  };
  await refuses(
    devicemapperFactory.open(home, options),
    "failed_precondition",
    /has a filesystem already, use dm\.directlvm/,
  );
  const force = { ...options, "dm.directlvm_device_force": "true" };
  try {
    const first = await devicemapperFactory.open(home, force);
    await first.rest();
    await using s = await Bench.open(home, options);
    const id = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, "x"));
    const child = await s.layer(id);
    assert.equal(await s.hintOf(child), "none");
    assert.equal(s.status("Pool Name"), "lamella-thinpool");
    assert.equal(s.status("Pool Blocksize"), "524.3kB");
    assert.match(readFileSync("/etc/lvm/profile/lamella-thinpool.profile", "utf8"), /threshold=70\n.*percent=20\n/);
    const lvs = execFileSync("lvs", ["--noheadings", "-o", "lv_name,lv_profile,chunk_size", "--units", "k", "lamella"]);
    assert.match(lvs.toString(), /thinpool\s+lamella-thinpool\s+512\.00k/);
    await refuses(s.reopen({ "dm.thinp_percent": "80%" }), "failed_precondition", /changing direct-lvm config is not/);
    for (const layer of [child, id]) await s.driver.remove(layer);
  } finally {
    execFileSync("vgremove", ["-f", "lamella"], { env: withoutUdev });
    execFileSync("pvremove", [disk.path], { env: withoutUdev });
    rmSync(folder, { recursive: true });
  }
});
