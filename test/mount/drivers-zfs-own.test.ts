/** zfs by itself: its datasets and who they go to, reclaiming, parent datasets, mounts that are kept, probes, status. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { listChanges } from "../../src/diff/export-layer.ts";
import type { Driver, LayerId } from "../../src/drivers/driver.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { letDaemonCatchUp } from "../../src/drivers/zfs/catch-up.ts";
import { zfsFactory } from "../../src/drivers/zfs/factory.ts";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { umount } from "../../src/fs/mounts.ts";
import { directoryIn } from "../support/file-systems.ts";
import { datasetsBelow, zfs, zfsPlace } from "../support/zfs-lab.ts";

const place = zfsPlace();
const skip = place.skip ?? false;

/** What a failed test leaves must not fail the next. */
afterEach(() => {
  if (place.skip !== undefined) return;
  letDaemonCatchUp(place.pool);
  for (const { mountPoint } of readMountInfo()) if (mountPoint.includes("/graph/")) umount(mountPoint);
  const left = datasetsBelow(place.pool).filter((name) => !name.includes("@"));
  for (const name of left.toReversed()) spawnSync("zfs", ["destroy", "-R", name], { timeout: 20_000 });
});

/** What there is in the pool, each dataset by the name it was given here. */
function shown(names: Readonly<Record<string, LayerId>>): string[] {
  const known = Object.entries(names);
  const short = (text: string): string =>
    known.reduce((all, [name, id]) => all.replaceAll(id, name).replaceAll(id.slice(0, 16), name), text);
  return datasetsBelow(place.pool)
    .map((dataset) => short(dataset.slice(place.pool.length + 1)))
    .sort();
}

async function layer(driver: Driver, parent?: LayerId): Promise<LayerId> {
  const id = newLayerId();
  await driver.create(id, parent);
  return id;
}

function graphMounts(home: string): string[] {
  return readMountInfo()
    .map(({ mountPoint }) => mountPoint)
    .filter((point) => point.startsWith(`${home}/graph/`));
}

test("hands the snapshot of a removed layer over to those that still stand on it", { skip }, async () => {
  const driver = await zfsFactory.open(directoryIn(place), {});
  const [old, fresh] = [await layer(driver), await layer(driver)];
  const [one, two] = [await layer(driver, old), await layer(driver, old)];
  const names = { old, fresh, one, two };
  assert.deepEqual(shown(names), ["fresh", "old", "old@old", "one", "two"]);
  for (const id of [one, two]) await driver.reparent(id, fresh);
  // Somebody else's snapshots of one name must not stand in the way.
  for (const id of [old, one, two]) zfs("snapshot", `${place.pool}/${id}@auto`);
  await driver.remove(old);
  const left = shown(names);
  assert.deepEqual(
    left
      .filter((name) => !name.includes("@auto"))
      .map((name) => name.replace(/^(?:one|two)@/, "heir@"))
      .sort(),
    ["fresh", "heir@old", "one", "two"],
  );
  const [heir, other] = left.includes("one@old") ? [one, two] : [two, one];
  await driver.remove(heir);
  // The other one alone stands on it now, and has it no longer as an origin.
  assert.deepEqual(
    shown(names).filter((name) => name.includes("@old")),
    [],
  );
  await driver.remove(other);
  await driver.remove(fresh);
  assert.deepEqual(shown(names), []);
});

test("drops a snapshot with its last clone", { skip }, async () => {
  const driver = await zfsFactory.open(directoryIn(place), {});
  const [old, fresh] = [await layer(driver), await layer(driver)];
  const child = await layer(driver, old);
  await driver.reparent(child, fresh);
  await driver.remove(old);
  assert.deepEqual(shown({ fresh, child }), ["child", "fresh"]);
  // A clone of another tree than its parent's: nothing is known of the two.
  await using source = await driver.diffSource(child);
  assert.equal(source.value.kind === "trees" && source.value.hint, undefined);
  await source[Symbol.asyncDispose]();
  for (const id of [child, fresh]) await driver.remove(id);
  assert.deepEqual(datasetsBelow(place.pool), []);
});

test("reclaims what crashes left, and nothing of others", { skip }, async () => {
  const home = directoryIn(place);
  const driver = await zfsFactory.open(home, {});
  const kept = await layer(driver);
  const neighbour = await zfsFactory.open(directoryIn(place), {});
  const theirs = await layer(neighbour);
  const [orphan, lost] = [await layer(driver, kept), await layer(driver, kept)];
  await driver.rest();
  // A creation that did not come to its record, a removal that was cut short, a record whose removal a power cut undid.
  rmSync(`${home}/layers/${orphan}`);
  zfs("destroy", `${place.pool}/${lost}`);
  for (const name of [newLayerId(), "lamella-trial-1000000000-00000000", `lamella-trial-9999999999-00000000`])
    zfs("create", "-o", "mountpoint=legacy", `${place.pool}/${name}`);
  assert.equal(await driver.reclaim(), 3);
  assert.equal(await driver.reclaim(), 0);
  assert.deepEqual(await driver.list(), [kept]);
  const names = datasetsBelow(place.pool);
  for (const id of [orphan, lost]) assert.ok(!names.some((name) => name.includes(id)));
  for (const id of [kept, theirs]) assert.ok(names.includes(`${place.pool}/${id}`));
  assert.ok(names.includes(`${place.pool}/lamella-trial-9999999999-00000000`));
  await driver.remove(kept);
  await neighbour.remove(theirs);
  for (const name of datasetsBelow(place.pool)) zfs("destroy", name);
});

test("makes an id again that a crash left a dataset of", { skip }, async () => {
  const home = directoryIn(place);
  const driver = await zfsFactory.open(home, {});
  const id = await layer(driver);
  await driver.rest();
  rmSync(`${home}/layers/${id}`);
  await driver.create(id, undefined);
  await driver.remove(id);
  assert.deepEqual(datasetsBelow(place.pool), []);
});

test("keeps mounts for the next step, not too many, and none after a rest", { skip }, async () => {
  const home = directoryIn(place);
  const driver = await zfsFactory.open(home, {});
  const base = await layer(driver);
  const mountId = (): number | undefined => readMountInfo().find(({ mountPoint }) => mountPoint.endsWith(base))?.id;
  {
    await using _ = await driver.mount(base);
  }
  const first = mountId();
  assert.notEqual(first, undefined);
  const children: LayerId[] = [];
  for (let i = 0; i < 3; i++) {
    children.push(await layer(driver, base));
    await using _ = await driver.diffSource(children[i] as LayerId);
    assert.equal(mountId(), first, "the parent was mounted anew");
  }
  for (let i = 0; i < 16; i++) children.push(await layer(driver, base));
  assert.ok(graphMounts(home).length <= 16, `${graphMounts(home).length} mounts are kept`);
  await driver.rest();
  assert.deepEqual(graphMounts(home), []);
  assert.deepEqual(readdirSync(`${home}/graph`), []);
  for (const id of [...children, base]) await driver.remove(id);
});

test("tells the changes of a layer that is mounted and in use", { skip }, async () => {
  const driver = await zfsFactory.open(directoryIn(place), {});
  const base = await layer(driver);
  {
    await using mounted = await driver.mount(base);
    writeFileSync(`${mounted.path}/old`, "old");
  }
  const id = await layer(driver, base);
  {
    await using mounted = await driver.mount(id);
    const changes = async (): Promise<string[]> => {
      await using source = await driver.diffSource(id);
      return (await listChanges(source.value)).map(({ kind, path }) => `${kind} ${path}`);
    };
    writeFileSync(`${mounted.path}/first`, "1");
    assert.deepEqual(await changes(), ["A /first"]);
    rmSync(`${mounted.path}/old`);
    assert.deepEqual((await changes()).sort(), ["A /first", "D /old"]);
    // What a map of a file holds back must be in it, and in what a child begins with.
    const map = "import mmap,os; f=os.open('first',os.O_RDWR); m=mmap.mmap(f,1); m[0:1]=b'M'";
    execFileSync("python3", ["-c", map], { cwd: mounted.path });
  }
  const child = await layer(driver, id);
  {
    await using mounted = await driver.mount(child, { readOnly: true });
    assert.equal(readFileSync(`${mounted.path}/first`, "utf8"), "M");
  }
  for (const one of [child, id, base]) await driver.remove(one);
});

test("works below a dataset that is named, and tells when it is another", { skip }, async () => {
  const home = join(mkdtempSync(join(tmpdir(), "lamella-zfs-home-")), "zfs");
  const [one, other] = [`${place.pool}/one`, `${place.pool}/other`];
  for (const name of [one, other]) zfs("create", "-o", "mountpoint=legacy", name);
  const refused = (fsname: string | undefined, text: RegExp): Promise<void> =>
    assert.rejects(zfsFactory.open(home, fsname === undefined ? {} : { "zfs.fsname": fsname }), (error) => {
      assert.ok(error instanceof LamellaError);
      assert.match(`${error.message} ${error.hint}`, text);
      return true;
    });
  await refused(undefined, /not on ZFS.*zfs\.fsname=POOL\/DATASET/);
  await refused(`${place.pool}/missing`, /does not exist/);
  await refused("a b@c", /not the name of a dataset/);
  await assert.rejects(zfsFactory.open(home, { "zfs.size": "1G" }), /unknown option zfs\.size/);
  const driver = await zfsFactory.open(home, { "zfs.fsname": one });
  const id = await layer(driver);
  assert.deepEqual(datasetsBelow(one), [`${one}/${id}`]);
  await driver.rest();
  await refused(other, /below .*\/one, not below .*\/other.*zfs\.fsname=/);
  zfs("rename", one, `${place.pool}/renamed`);
  const renamed = await zfsFactory.open(home, { "zfs.fsname": `${place.pool}/renamed` });
  {
    await using mounted = await renamed.mount(id);
    writeFileSync(`${mounted.path}/file`, "x");
  }
  await renamed.remove(id);
  for (const name of [`${place.pool}/renamed`, other]) zfs("destroy", name);
  rmSync(join(home, ".."), { recursive: true });
});

test("mounts layers where the home is now", { skip }, async () => {
  const home = directoryIn(place);
  const driver = await zfsFactory.open(home, {});
  const id = await layer(driver);
  await driver.rest();
  renameSync(home, `${home}-moved`);
  const moved = await zfsFactory.open(`${home}-moved`, {});
  {
    await using mounted = await moved.mount(id);
    assert.equal(mounted.path, `${home}-moved/graph/${id}`);
    writeFileSync(`${mounted.path}/file`, "x");
  }
  await moved.remove(id);
  assert.deepEqual(datasetsBelow(place.pool), []);
});

test("says what is there and what is missing, and leaves nothing", { skip }, async () => {
  const home = join(directoryIn(place), "zfs");
  const probes = await zfsFactory.probe(home);
  assert.deepEqual(
    probes.filter(({ ok, required }) => required && !ok),
    [],
  );
  for (const { name, ok, remedy } of probes) assert.equal(remedy === undefined, ok, name);
  assert.deepEqual(datasetsBelow(place.pool), []);
  assert.deepEqual(readdirSync(join(home, "..")), []);
  const elsewhere = await zfsFactory.probe(tmpdir());
  assert.equal(elsewhere.at(-1)?.name, "parent_dataset");
  assert.match(elsewhere.at(-1)?.remedy ?? "", /zfs\.fsname/);
});

test("says so when the daemon does not answer", { skip }, (t) => {
  if (mounterHere() === "kernel") return t.skip("the kernel always answers");
  const module = join(import.meta.dirname, "../../src/drivers/zfs/factory.ts");
  const script = `import { zfsFactory } from ${JSON.stringify(module)}; console.log(JSON.stringify(await zfsFactory.probe("/tmp")));`;
  const node = [process.execPath, ...process.execArgv, "--input-type=module", "-e", script];
  const hidden = ["-m", "sh", "-c", 'mount -t tmpfs none /var/run/zfs && exec "$@"', "sh"];
  const { stdout, stderr } = spawnSync("unshare", [...hidden, ...node], { encoding: "utf8" });
  assert.ok(stdout !== "", stderr);
  const last = JSON.parse(stdout).at(-1);
  assert.equal(last.name, "zfs_answers");
  assert.match(last.reason, /daemon is running/);
  assert.match(last.remedy, /start the zfs-fuse daemon/);
});

test("prints status as docker info does, and asks the host once", { skip }, async () => {
  const home = directoryIn(place);
  zfs("set", "quota=1G", place.pool);
  const driver = await zfsFactory.open(home, {});
  const status = driver.status();
  assert.deepEqual(
    status.map(([key]) => key),
    [
      "Zpool",
      "Zpool Health",
      "Parent Dataset",
      "Space Used By Parent",
      "Space Available",
      "Parent Quota",
      "Compression",
    ],
  );
  const lines = new Map(status);
  assert.equal(lines.get("Zpool"), place.pool);
  assert.equal(lines.get("Zpool Health"), "ONLINE");
  assert.equal(lines.get("Parent Quota"), String(1 << 30));
  assert.match(lines.get("Space Available") ?? "", /^\d+$/);
  zfs("set", "quota=none", place.pool);
  assert.equal(new Map(driver.status()).get("Parent Quota"), "no");
  const probed = readFileSync(`${home}/.lamella/probes.json`, "utf8");
  await zfsFactory.open(home, {});
  assert.equal(readFileSync(`${home}/.lamella/probes.json`, "utf8"), probed);
});
