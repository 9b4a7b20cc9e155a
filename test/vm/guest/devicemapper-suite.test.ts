/** The driver suite on devicemapper: a pool over loop files with ext4, and one that was ready with xfs. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync } from "node:fs";
import { after } from "node:test";
import { devicemapperFactory } from "../../../src/drivers/devicemapper/factory.ts";
import * as dm from "../../../src/sys/device-mapper.ts";
import { testDriver } from "../../../src/testing/driver-suite.ts";
import { testDriverProperty } from "../../support/driver-property.ts";
import {
  bringUpPool,
  copyTree,
  devicesOfHost,
  poolFolder,
  sizes,
  Template,
  usageOracle,
} from "../../support/thin-pools.ts";

const common = {
  privileged: true,
  depth: 12,
  cycles: 6,
  renamesLowerDirectories: true,
  metadataCopies: false,
  hostState: devicesOfHost,
};

// All that waits comes before the first test is registered: tests run meanwhile, and look at what is on the host.
const loops = await Template.make({ "dm.fs": "ext4" });

/** One pool after the other under one name: each test finds it as it was after the first opening. */
const POOL = "test-suite-pool";
const options = { ...sizes, "dm.fs": "xfs", "dm.thinpooldev": POOL };
const [home, files] = [mkdtempSync("/var/tmp/dm-template-"), poolFolder()];
let pool = bringUpPool(POOL, files);
await (await devicemapperFactory.open(home, options)).rest();
pool[Symbol.dispose]();
const onLoops = { makeHome: () => loops.copy(), driverOptions: loops.options };
testDriver("devicemapper, loop files, ext4", devicemapperFactory, {
  ...common,
  ...onLoops,
  quotaBytes: 320 << 20,
  alwaysLimited: true,
  usage: { expected: usageOracle((home) => poolOf(home)), slackBytes: 4 << 16 },
});
testDriverProperty("devicemapper, loop files, ext4", devicemapperFactory, { ...onLoops, runs: 2 });

/** The pool of a home that has brought it up. */
function poolOf(home: string): string {
  const inode = execFileSync("stat", ["-c", "%i", home], { encoding: "utf8" }).trim();
  return dm.list().find(({ name }) => name.endsWith(`-${inode}-pool`))?.name ?? "";
}

let copyOfFiles = "";
function makeHome(): string {
  pool[Symbol.dispose]();
  if (copyOfFiles !== "") execFileSync("rm", ["-rf", copyOfFiles]);
  copyOfFiles = poolFolder();
  copyTree(files, copyOfFiles);
  pool = bringUpPool(POOL, copyOfFiles);
  const made = mkdtempSync("/var/tmp/dm-home-");
  copyTree(home, made);
  return made;
}
testDriver("devicemapper, a ready pool, xfs", devicemapperFactory, {
  ...common,
  makeHome,
  driverOptions: options,
  usage: { expected: usageOracle(() => POOL), slackBytes: 4 << 16 },
});
after(() => {
  pool[Symbol.dispose]();
  loops.remove();
  for (const folder of readdirSync("/var/tmp").filter((name) => /^dm-(pool|template)-/.test(name)))
    execFileSync("rm", ["-rf", `/var/tmp/${folder}`]);
});
