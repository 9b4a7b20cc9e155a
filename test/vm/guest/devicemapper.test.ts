/** The driver devicemapper in a machine that has a device mapper. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { devicemapperFactory } from "../../../src/drivers/devicemapper/factory.ts";
import type { Driver, LayerId } from "../../../src/drivers/driver.ts";
import { newLayerId } from "../../../src/drivers/layer-id.ts";
import { readMountInfo } from "../../../src/fs/mountinfo.ts";
import { devicesOfHost, type Options, sizes } from "../../support/thin-pools.ts";

const fileSystems = ["ext4", "xfs"] as const;

interface Bench extends AsyncDisposable {
  readonly home: string;
  readonly driver: Driver;
  readonly layer: (parent?: LayerId, fill?: (root: string) => void) => Promise<LayerId>;
  readonly reopen: (options?: Options) => Promise<Driver>;
}

/** A driver in a home of its own; at the end nothing of it may be left on the host. */
async function bench(options: Options): Promise<Bench> {
  const hostBefore = devicesOfHost();
  const home = mkdtempSync("/var/tmp/dm-");
  const all = { ...sizes, ...options };
  const driver = await devicemapperFactory.open(home, all);
  const drivers = [driver];
  const layer = async (parent?: LayerId, fill?: (root: string) => void): Promise<LayerId> => {
    const id = newLayerId();
    await driver.create(id, parent);
    if (fill === undefined) return id;
    await using mounted = await driver.mount(id);
    fill(mounted.path);
    return id;
  };
  const reopen = async (more: Options = {}): Promise<Driver> => {
    const opened = await devicemapperFactory.open(home, { ...all, ...more });
    drivers.push(opened);
    return opened;
  };
  return {
    home,
    driver,
    layer,
    reopen,
    [Symbol.asyncDispose]: async () => {
      for (const one of drivers) await one.rest();
      const mounts = readMountInfo().filter(({ mountPoint }) => mountPoint.startsWith(home));
      assert.deepEqual(mounts, []);
      assert.deepEqual(devicesOfHost(), hostBefore);
      rmSync(home, { recursive: true });
    },
  };
}

for (const fileSystem of fileSystems)
  test(`${fileSystem}: keeps layers apart, and tells what changed`, async () => {
    await using s = await bench({ "dm.fs": fileSystem });
    const { driver } = s;
    const base = await s.layer(undefined, (root) => writeFileSync(`${root}/file`, Buffer.alloc(200_000, 1)));
    const child = await s.layer(base, (root) => writeFileSync(`${root}/own`, Buffer.alloc(300_000, 2)));
    const untouched = await s.layer(base);
    const mountedOnly = await s.layer(base, (root) => assert.equal(readdirSync(root).length, 1));
    {
      await using below = await driver.mount(base);
      assert.deepEqual(readdirSync(below.path), ["file"]);
      assert.equal(below.readOnly, true);
    }
    await driver.rest();
    const hintOf = async (id: LayerId): Promise<string | undefined> => {
      await using source = await driver.diffSource(id);
      assert.equal(source.value.kind, "trees");
      return "hint" in source.value ? source.value.hint?.kind : undefined;
    };
    assert.equal(await hintOf(base), undefined);
    assert.equal(await hintOf(child), "clone");
    assert.equal(await hintOf(untouched), "none");
    console.log(fileSystem, "mounted only", await hintOf(mountedOnly));
    const usage = await driver.usage(child);
    assert.ok(usage.sizeBytes >= 300_000 && usage.sizeBytes < 4 << 20, String(usage.sizeBytes));
    assert.equal(usage.inodes, 1);
    assert.deepEqual(await driver.usage(untouched), { sizeBytes: 0, inodes: 0 });
  });
