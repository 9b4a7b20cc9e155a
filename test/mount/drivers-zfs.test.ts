/** The driver zfs on a pool of zfs-fuse. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Driver, LayerId } from "../../src/drivers/driver.ts";
import { mounterHere } from "../../src/drivers/zfs/abilities.ts";
import { zfsFactory } from "../../src/drivers/zfs/factory.ts";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { program } from "../e2e/cli-harness.ts";
import { busyboxMissing, makeBusyboxRoot } from "../support/busybox-root.ts";
import { counts } from "../support/counts.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn } from "../support/file-systems.ts";
import { datasetsBelow, zfs, zfsPlace } from "../support/zfs-lab.ts";

const place = zfsPlace();
const skip = place.skip ?? false;
const isFuse = mounterHere() === "daemon";

/** Removes all layers, those on top first. */
async function removeLayers(_home: string, driver: Driver): Promise<void> {
  const ids = await driver.list();
  const depthOf = (id: LayerId | undefined): number => (id === undefined ? 0 : 1 + depthOf(driver.parentOf(id)));
  const depths = new Map(ids.map((id) => [id, depthOf(id)]));
  for (const id of ids.toSorted((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0))) await driver.remove(id);
}

function inodes(directory: string): number {
  return Number.parseInt(execFileSync("du", ["-s", "--inodes", directory], { encoding: "utf8" }), 10);
}

testDriver(isFuse ? "zfs on zfs-fuse" : "zfs", zfsFactory, {
  makeHome: () => directoryIn(place),
  removeHome: removeLayers,
  hostState: () => datasetsBelow(place.pool),
  skip: place.skip,
  privileged: true,
  ...counts({ depth: 24, cycles: 30 }),
  usage: {
    expected: (home, id) => {
      // What is counted is counted when the pool's next transaction group is written.
      zfs("set", "lamella:flushed=yes", place.pool);
      const sizeBytes = Number(zfs("get", "-Hpo", "value", "used", `${place.pool}/${id}`));
      const parent = /^parent (\w+)$/m.exec(readFileSync(`${home}/layers/${id}`, "utf8"))?.[1];
      return { sizeBytes, inodes: inodes(`${home}/graph/${id}`) - (parent ? inodes(`${home}/graph/${parent}`) : 0) };
    },
  },
  renamesLowerDirectories: true,
  metadataCopies: false,
  quotaBytes: 8 << 20,
});

testDriverProperty("zfs", zfsFactory, {
  makeHome: () => directoryIn(place),
  skip: place.skip,
  runs: 5,
  // zfs-fuse neither enforces ACLs nor has the mode follow them.
  acls: !isFuse,
});

test("leaves no dataset", { skip }, () => {
  assert.deepEqual(datasetsBelow(place.pool), []);
});

test("builds, runs and removes images from the command line", { skip: place.skip ?? busyboxMissing() ?? false }, () => {
  const at = directoryIn(place, "cli");
  const root = join(at, "store");
  makeBusyboxRoot(join(at, "base"));
  const lamella = (...words: string[]): string => {
    const [command = "", ...rest] = [...program, ...words, "--root", root, "--driver", "zfs"];
    const { status, stdout, stderr } = spawnSync(command, rest, { encoding: "utf8" });
    assert.equal(status, 0, `lamella ${words.join(" ")}: ${stderr}`);
    return stdout;
  };
  lamella("import", join(at, "base"), "base");
  mkdirSync(join(at, "context"));
  writeFileSync(join(at, "context/file"), "from the context\n");
  const steps = [
    "FROM base",
    "COPY file /copied",
    "RUN echo run >/run-made && rm /etc/group",
    "ENV A=b",
    "RUN cat /copied",
  ];
  writeFileSync(join(at, "context/Dockerfile"), `${steps.join("\n")}\n`);
  const before = datasetsBelow(place.pool).filter((name) => !name.includes("@"));
  lamella("build", "-t", "built", join(at, "context"));
  const after = datasetsBelow(place.pool).filter((name) => !name.includes("@"));
  assert.equal(after.length, before.length + 2, "a metadata-only step, or one that changes nothing, has a dataset");
  assert.equal(lamella("cat", "built", "/copied"), "from the context\n");
  lamella("build", "-t", "again", join(at, "context"));
  assert.deepEqual(
    datasetsBelow(place.pool).filter((name) => !name.includes("@")),
    after,
  );
  lamella("rmi", "built", "again", "base");
  lamella("gc", "--all");
  assert.deepEqual(datasetsBelow(place.pool), []);
  assert.deepEqual(
    readMountInfo().filter(({ mountPoint }) => mountPoint.startsWith(`${root}/`)),
    [],
  );
});
