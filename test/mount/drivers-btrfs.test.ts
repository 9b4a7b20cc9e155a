/**
 * The driver btrfs on a loop device, in a mount namespace of this process's own; then again in a user namespace, where neither
 * sending nor destroying subvolumes is allowed. There the directory of the file system is given as an argument.
 */
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { BtrfsDriver } from "../../src/drivers/btrfs/btrfs.ts";
import { btrfsFactory } from "../../src/drivers/btrfs/factory.ts";
import type { DriverFactory, LayerId, LayerUsage } from "../../src/drivers/driver.ts";
import { LayerRecords } from "../../src/drivers/layer-records.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { counts } from "../support/counts.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const userNamespace = inUserNamespace();
const [given, mode] = process.argv.slice(2);
const place = given === undefined ? placeOf("btrfs", { size: "3G" }) : { directory: given, skip: undefined };
const { skip } = place;
const makeHome = (): string => directoryIn(place);

/** Names of all subvolumes: not for those who may not read trees. */
function subvolumes(): string[] {
  const list = execFileSync("btrfs", ["subvolume", "list", place.directory], { encoding: "utf8" });
  return list.split("\n").map((line) => line.replace(/.* path /, ""));
}

/** What a tree takes as du says, less what its parent's takes: right for layers that only add to it. */
function added(home: string, id: LayerId): LayerUsage {
  const du = (layer: LayerId, words: readonly string[]): number =>
    Number.parseInt(execFileSync("du", ["-s", ...words, `${home}/subvolumes/${layer}`], { encoding: "utf8" }), 10);
  const { parent } = new LayerRecords(`${home}/layers`).read(id);
  const of = (...words: string[]): number => du(id, words) - (parent === undefined ? 0 : du(parent, words));
  // Where trees cannot be read, the root counts, which has changed.
  return { sizeBytes: of("-B1"), inodes: of("--inodes") + (userNamespace && parent !== undefined ? 1 : 0) };
}

if (mode !== "property")
  testDriver("btrfs", btrfsFactory, {
    makeHome,
    removeHome: async (_home, driver) => {
      for (const id of await driver.list()) await driver.remove(id);
    },
    skip,
    privileged: !userNamespace,
    usage: { expected: added },
    renamesLowerDirectories: true,
    metadataCopies: !userNamespace,
    ...(userNamespace ? counts({ cycles: 50, depth: 20 }) : { quotaBytes: 8 << 20, hostState: subvolumes }),
  });

testDriverProperty("btrfs", btrfsFactory, { makeHome, skip, runs: userNamespace ? 10 : 30 });

if (!userNamespace) {
  const unprivileged: DriverFactory = {
    ...btrfsFactory,
    open: async (home, options) => {
      await btrfsFactory.open(home, options);
      return new BtrfsDriver(home, { minSpaceBytes: undefined, unprivileged: "not tried" });
    },
  };
  testDriverProperty("btrfs by change times", unprivileged, { makeHome, skip, runs: 20 });
  test("the same in a user namespace", { skip: skip ?? false }, (t) =>
    againInUserNamespace(t, import.meta.filename, place.directory, "all"),
  );
  test("the same with user_subvol_rm_allowed", { skip: skip ?? false }, (t) => {
    execFileSync("mount", ["-o", "remount,user_subvol_rm_allowed", place.directory]);
    againInUserNamespace(t, import.meta.filename, place.directory, "property");
  });
}
