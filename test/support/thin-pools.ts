/**
 * Homes of the driver devicemapper for tests in the machine. Making a pool's file system takes seconds there, so it is made
 * once and copied: homes can be copied as long as their pool is not up.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { devicemapperFactory } from "../../src/drivers/devicemapper/factory.ts";
import * as dm from "../../src/sys/device-mapper.ts";
import { attachLoop } from "../../src/sys/loop.ts";

/** On the disk: files in memory cannot be as sparse as pools are. */
const scratch = "/var/tmp";

export type Options = Readonly<Record<string, string>>;

/** Small enough for a machine whose processor is emulated; xfs takes no less. */
export const sizes: Options = {
  "dm.basesize": "300M",
  "dm.loopdatasize": "1G",
  "dm.loopmetadatasize": "16M",
};

/** Makes homes that are equal to one that was opened once with these options. */
export function homesOf(options: Options): () => string {
  const template = mkdtempSync(join(scratch, "dm-template-"));
  let ready: Promise<void> | undefined;
  const make = async (): Promise<void> => {
    const driver = await devicemapperFactory.open(template, options);
    await driver.rest();
  };
  return Object.assign(
    () => {
      const home = mkdtempSync(join(scratch, "dm-home-"));
      if (readdirSync(template).length > 0) execFileSync("cp", ["-a", "--sparse=always", `${template}/.`, home]);
      return home;
    },
    {
      prepare: () => {
        ready ??= make();
        return ready;
      },
    },
  );
}

/** Devices of the device mapper and loop devices there are now: all of this is to be as before when a test is over. */
export function devicesOfHost(): string[] {
  const loops = execFileSync("losetup", ["-n", "-O", "NAME,BACK-FILE"], { encoding: "utf8" });
  const nodes = readdirSync("/dev/mapper").filter((name) => name !== "control");
  return [...dm.list().map(({ name }) => name), ...nodes, ...loops.split("\n")].sort();
}

/** A thin pool as an administrator has one, over two files; disposing takes it down. */
export function makePool(name: string, options: { readonly dataBytes: string }): Disposable {
  const folder = mkdtempSync(join(scratch, "dm-pool-"));
  const [data, metadata] = [join(folder, "data"), join(folder, "metadata")];
  execFileSync("truncate", ["-s", options.dataBytes, data]);
  execFileSync("truncate", ["-s", "16M", metadata]);
  using dataLoop = attachLoop(data);
  using metadataLoop = attachLoop(metadata);
  const sectors = Number(execFileSync("blockdev", ["--getsz", dataLoop.path], { encoding: "utf8" }));
  const parameters = `${metadataLoop.path} ${dataLoop.path} 128 0 1 skip_block_zeroing`;
  dm.create(name, [{ start: 0, length: sectors, type: "thin-pool", parameters }]);
  return {
    [Symbol.dispose]: () => {
      dm.remove(name);
      execFileSync("rm", ["-rf", folder]);
    },
  };
}
