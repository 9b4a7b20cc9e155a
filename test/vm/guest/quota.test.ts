/** Size limits of layers through project quotas, on the file systems that have them. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, renameSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Driver, LayerId } from "../../../src/drivers/driver.ts";
import { newLayerId } from "../../../src/drivers/layer-id.ts";
import { driverFactories } from "../../../src/drivers/open-driver.ts";
import { LamellaError } from "../../../src/errors/lamella-error.ts";
import { sleepSync } from "../../../src/fs/mounts.ts";
import { ProjectQuota } from "../../../src/fs/project-quota.ts";
import { O_DIRECTORY, O_RDONLY } from "../../../src/sys/constants.ts";
import { projectOf, setProject } from "../../../src/sys/quota.ts";
import * as sys from "../../../src/sys/syscalls.ts";
import { directoryIn, type Place, type PlaceOptions, placeOf } from "../../support/file-systems.ts";

const limitBytes = 4 << 20;
const tooMuch = Buffer.alloc(limitBytes + (1 << 20), 1);

const ext4 = { mkfs: ["-O", "quota,project", "-E", "quotatype=prjquota"] };
const kinds: readonly (readonly ["xfs" | "ext4", PlaceOptions])[] = [
  ["xfs", { mount: "pquota" }],
  ["ext4", { ...ext4, mount: "prjquota" }],
];

/** The directory of a layer that has its project, below the home. */
const limited: Readonly<Record<string, (id: LayerId) => string>> = {
  overlay2: (id) => `${id}/diff`,
  vfs: (id) => `dir/${id}`,
};

async function open(name: string, home: string, options: Record<string, string> = {}): Promise<Driver> {
  const factory = driverFactories.get(name);
  assert.ok(factory !== undefined);
  return factory.open(home, options);
}

function directoryOf(driver: Driver, id: LayerId): string {
  return `${driver.home}/${limited[driver.name]?.(id)}`;
}

function projectIdOf(driver: Driver, id: LayerId): number {
  using directory = sys.open(directoryOf(driver, id), O_RDONLY | O_DIRECTORY);
  const project = projectOf(directory.fd);
  assert.ok(typeof project !== "number", `errno ${project}`);
  return project.id;
}

/** The limit that the file system has for a layer. */
function limitOf(driver: Driver, id: LayerId): number | undefined {
  const quota = ProjectQuota.open(driver.home, `${driver.home}/.lamella/quota-lock`);
  assert.ok(typeof quota !== "string", String(quota));
  return quota.usage(directoryOf(driver, id))?.limitBytes;
}

async function layer(driver: Driver, parent?: LayerId, sizeBytes?: number): Promise<LayerId> {
  const id = newLayerId();
  await driver.create(id, parent, sizeBytes === undefined ? {} : { sizeBytes });
  return id;
}

async function inLayer(driver: Driver, id: LayerId, body: (root: string) => void): Promise<void> {
  await using mounted = await driver.mount(id);
  body(mounted.path);
}

/**
 * Writes more than the limit allows, as a process in a container does: whoever has CAP_SYS_RESOURCE may go beyond the limits
 * of ext4. It says EDQUOT; xfs takes the end of a project for the end of the disk.
 */
function assertFull(root: string, type: string): void {
  const copy = ["dd", "if=/dev/zero", `of=${root}/full`, "bs=64k", `count=${tooMuch.length >> 16}`, "conv=fsync"];
  const { status, stderr } = spawnSync("setpriv", ["--bounding-set", "-sys_resource", ...copy], { encoding: "utf8" });
  assert.notEqual(status, 0);
  assert.match(stderr, type === "ext4" ? /Disk quota exceeded/ : /No space left on device/);
}

for (const [type, options] of kinds) {
  const place = placeOf(type, options);
  for (const name of Object.keys(limited)) {
    describe(`${name} on ${type}`, { skip: place.skip ?? false }, () => limits(name, type, place));
  }
}

function limits(name: string, type: string, place: Place): void {
  test("a layer grows to its limit, each by itself", async () => {
    const driver = await open(name, directoryIn(place));
    assert.equal(driver.capabilities.quota, true);
    const base = await layer(driver);
    await inLayer(driver, base, (root) => mkdirSync(`${root}/etc`));
    const a = await layer(driver, base, limitBytes);
    const b = await layer(driver, base, limitBytes);
    const free = await layer(driver, base);
    assert.equal(limitOf(driver, a), limitBytes);
    assert.notEqual(projectIdOf(driver, a), projectIdOf(driver, b));
    await inLayer(driver, a, (root) => assertFull(root, type));
    await inLayer(driver, b, (root) => {
      writeFileSync(`${root}/etc/file`, tooMuch.subarray(0, limitBytes / 2));
      assertFull(root, type);
      const { blocks, bsize } = statfsSync(root);
      assert.equal(blocks * bsize, limitBytes, "df shows the limit");
    });
    await inLayer(driver, free, (root) => writeFileSync(`${root}/file`, tooMuch));
    for (const id of [a, b, free, base]) await driver.remove(id);
  });

  test("what stands on a limited layer is not limited by it", async () => {
    const driver = await open(name, directoryIn(place));
    const below = await layer(driver, await layer(driver), limitBytes);
    await inLayer(driver, below, (root) => writeFileSync(`${root}/half`, tooMuch.subarray(0, limitBytes / 2)));
    const above = await layer(driver, below);
    assert.notEqual(projectIdOf(driver, above), projectIdOf(driver, below));
    await inLayer(driver, above, (root) => writeFileSync(`${root}/file`, tooMuch));
    const twice = await layer(driver, below, 2 * limitBytes);
    await inLayer(driver, twice, (root) => writeFileSync(`${root}/file`, tooMuch));
    for (const id of [above, twice]) await driver.remove(id);
  });

  /** The project of a new layer, the `hoped` one as soon as it is free: xfs lets go of deleted inodes in its own time. */
  async function projectOfNew(driver: Driver, hoped: number): Promise<number> {
    for (let turn = 0; ; turn++) {
      const id = await layer(driver, undefined, limitBytes);
      const project = projectIdOf(driver, id);
      if (project === hoped || turn === 20) return project;
      await driver.remove(id);
      sleepSync(100);
    }
  }

  test("a removed layer's project is free again, also one whose removal was cut off", async () => {
    const driver = await open(name, directoryIn(place));
    const first = await layer(driver, undefined, limitBytes);
    const project = projectIdOf(driver, first);
    await driver.remove(first);
    assert.equal(await projectOfNew(driver, project), project);
    const second = (await driver.list())[0] as LayerId;
    const folder = name === "vfs" ? `${driver.home}/dir` : driver.home;
    renameSync(`${folder}/${second}`, `${folder}/.${second}-removing-00000000`);
    assert.notEqual(projectIdOf(driver, await layer(driver, undefined, limitBytes)), project);
    await driver.reclaim();
    assert.equal(await projectOfNew(driver, project), project);
  });

  if (name === "overlay2")
    test("processes at once take projects of their own", async () => {
      const home = directoryIn(place);
      const program = [...process.execArgv, join(import.meta.dirname, "./quota-child.ts"), name, home];
      const children = [1, 2].map(() => spawn(process.execPath, program, { stdio: ["ignore", "ignore", "inherit"] }));
      const statuses = await Promise.all(children.map(async (child) => (await once(child, "exit"))[0]));
      assert.deepEqual(statuses, [0, 0]);
      const driver = await open(name, home);
      const ids = await driver.list();
      assert.equal(ids.length, 10);
      assert.equal(new Set(ids.map((id) => projectIdOf(driver, id))).size, ids.length);
    });

  test("a home with a project of its own says where the projects of its layers begin", async () => {
    const home = directoryIn(place);
    {
      using directory = sys.open(home, O_RDONLY | O_DIRECTORY);
      assert.equal(setProject(directory.fd, 999), 0);
    }
    const driver = await open(name, home);
    const unlimited = await layer(driver);
    assert.equal(projectIdOf(driver, unlimited), 999);
    if (name === "vfs") return assert.rejects(layer(driver, unlimited, limitBytes), { code: "QUOTA_UNSUPPORTED" });
    const id = await layer(driver, unlimited, limitBytes);
    assert.equal(projectIdOf(driver, id), 1000);
    await inLayer(driver, id, (root) => assertFull(root, type));
    await driver.remove(unlimited);
    assert.equal(limitOf(driver, id), limitBytes);
    await driver.remove(id);
    assert.deepEqual(await driver.list(), []);
  });

  test("the driver's option is for layers that are written to", async () => {
    const option = name === "overlay2" ? "overlay2.size" : "size";
    const driver = await open(name, directoryIn(place), { [option]: "4m" });
    assert.equal(driver.writableSizeBytes, limitBytes);
    assert.equal(limitOf(driver, await layer(driver)), undefined);
  });
}

describe("file systems without project quotas say why", () => {
  const without: readonly (readonly ["xfs" | "ext4", PlaceOptions, RegExp])[] = [
    ["xfs", {}, /not mounted with the option `pquota`/],
    ["ext4", ext4, /not mounted with `prjquota`/],
    ["ext4", {}, /made without the features `quota` and `project`/],
  ];
  for (const [type, options, reason] of without) {
    test(`${type} ${options.mkfs?.join(" ") ?? ""}`, async (t) => {
      const place = placeOf(type, options);
      if (place.skip !== undefined) return t.skip(place.skip);
      const driver = await open("overlay2", directoryIn(place));
      assert.equal(driver.capabilities.quota, false);
      await assert.rejects(driver.create(newLayerId(), undefined, { sizeBytes: limitBytes }), (error) => {
        assert.ok(error instanceof LamellaError);
        assert.equal(error.message, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
        assert.match(error.hint ?? "", reason);
        return true;
      });
      assert.deepEqual(await driver.list(), []);
      await assert.rejects(open("overlay2", driver.home, { "overlay2.size": "1G" }), {
        message: /^Storage option overlay2\.size not supported\. Filesystem does not support Project Quota: /,
      });
    });
  }
});
