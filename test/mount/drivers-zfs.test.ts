/** The driver zfs on a pool of zfs-fuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { zfsFactory } from "../../src/drivers/zfs/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { directoryIn } from "../support/file-systems.ts";
import { datasetsBelow, zfsPlace } from "../support/zfs-lab.ts";

const place = zfsPlace();
const skip = place.skip ?? false;

testDriver("zfs on zfs-fuse", zfsFactory, {
  makeHome: () => directoryIn(place),
  skip: place.skip,
  privileged: true,
  depth: 128,
  usage: (home, id) => `${home}/graph/${id}`,
  renamesLowerDirectories: true,
  metadataCopies: false,
});

test("probes", { skip }, async () => {
  console.log(await zfsFactory.probe(directoryIn(place)));
});

test("leaves no dataset", { skip }, () => {
  assert.deepEqual(datasetsBelow(place.pool), []);
});
