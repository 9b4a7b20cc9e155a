/**
 * Homes and pools of the driver devicemapper, for tests in the machine. Making the base device's file system takes a while
 * there, so a home is made once and copied: homes can be copied as long as their pool is not up.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { devicemapperFactory } from "../../src/drivers/devicemapper/factory.ts";
import type { LayerId, LayerUsage } from "../../src/drivers/driver.ts";
import * as dm from "../../src/sys/device-mapper.ts";
import { attachLoop } from "../../src/sys/loop.ts";

/** On the disk: a file system in memory is no place for pools. */
const scratch = "/var/tmp";

export type Options = Readonly<Record<string, string>>;

/** Small enough for a machine whose processor is emulated; xfs takes no less. */
export const sizes: Options = {
  "dm.basesize": "300M",
  "dm.loopdatasize": "1G",
  "dm.loopmetadatasize": "16M",
};

/** A home that was opened once with these options, and is to be copied. */
export class Template {
  readonly options: Options;
  readonly #home = mkdtempSync(join(scratch, "dm-template-"));

  private constructor(options: Options) {
    this.options = options;
  }

  static async make(options: Options): Promise<Template> {
    const template = new Template({ ...sizes, ...options });
    const driver = await devicemapperFactory.open(template.#home, template.options);
    await driver.rest();
    return template;
  }

  /** A new home like it. */
  copy(): string {
    const home = mkdtempSync(join(scratch, "dm-home-"));
    copyTree(this.#home, home);
    return home;
  }

  remove(): void {
    execFileSync("rm", ["-rf", this.#home]);
  }
}

/** Copies a directory's content, holes as holes. */
export function copyTree(from: string, to: string): void {
  execFileSync("cp", ["-a", "--sparse=always", `${from}/.`, to]);
}

/** Devices of the device mapper, their nodes, and loop devices with their files. */
export function devicesOfHost(): string[] {
  const loops = execFileSync("losetup", ["-n", "-O", "NAME,BACK-FILE"], { encoding: "utf8" });
  const nodes = readdirSync("/dev/mapper").filter((name) => name !== "control");
  return [...dm.list().map(({ name }) => name), ...nodes, ...loops.split("\n").filter((line) => line !== "")].sort();
}

/** A thin pool as an administrator has one, over two files in `folder`; disposing takes it down. */
export function bringUpPool(name: string, folder: string): Disposable {
  const [data, metadata] = [join(folder, "data"), join(folder, "metadata")];
  execFileSync("truncate", ["-s", "1G", data]);
  execFileSync("truncate", ["-s", "16M", metadata]);
  using dataLoop = attachLoop(data);
  using metadataLoop = attachLoop(metadata);
  const length = Number(execFileSync("blockdev", ["--getsz", dataLoop.path], { encoding: "utf8" }));
  const parameters = `${metadataLoop.path} ${dataLoop.path} 128 0 1 skip_block_zeroing`;
  dm.create(name, [{ start: 0, length, type: "thin-pool", parameters }]);
  return { [Symbol.dispose]: () => void dm.remove(name) };
}

/** Makes an empty directory for the files of a pool. */
export function poolFolder(): string {
  return mkdtempSync(join(scratch, "dm-pool-"));
}

function deviceIdOf(home: string, id: string): number {
  return (JSON.parse(readFileSync(`${home}/metadata/${id}`, "utf8")) as { readonly device_id: number }).device_id;
}

function parentOf(home: string, id: string): string | undefined {
  return /^parent (.*)$/m.exec(readFileSync(`${home}/layers/${id}`, "latin1"))?.[1];
}

/**
 * What a layer's usage must be: blocks as thin_delta counts them, inodes as du counts those of the tree. Asked of a parent
 * before its children, while the layer is mounted.
 */
export function usageOracle(pool: (home: string) => string): (home: string, id: LayerId) => LayerUsage {
  const inodesOf = new Map<string, number>();
  return (home, id) => {
    const parent = parentOf(home, id);
    const tree = `${home}/trees/${id}/rootfs`;
    const inodes = Number.parseInt(execFileSync("du", ["-s", "--inodes", tree], { encoding: "utf8" }), 10);
    inodesOf.set(id, inodes);
    // The tree of a layer without a parent has its root from the base device, and beside it the file `id`.
    const sizeBytes = 65536 * blocksOf(pool(home), deviceIdOf(home, parent ?? "base"), deviceIdOf(home, id));
    return { sizeBytes, inodes: inodes - (parent === undefined ? 0 : (inodesOf.get(parent) ?? 0)) };
  };
}

function blocksOf(pool: string, origin: number, device: number): number {
  const metadata = dm.dependencies(pool).find(({ major, minor }) => {
    return dm.table(pool)[0]?.parameters.startsWith(`${major}:${minor} `);
  });
  const uevent = readFileSync(`/sys/dev/block/${metadata?.major}:${metadata?.minor}/uevent`, "latin1");
  const path = `/dev/${/^DEVNAME=(.*)$/m.exec(uevent)?.[1]}`;
  dm.message(pool, "reserve_metadata_snap");
  try {
    const words = ["-m", "--snap1", String(origin), "--snap2", String(device), path];
    const xml = execFileSync("thin_delta", words, { encoding: "utf8" });
    const lengths = [...xml.matchAll(/<(?:right_only|different) begin="\d+" length="(\d+)"/g)];
    return lengths.reduce((sum, match) => sum + Number(match[1]), 0);
  } finally {
    dm.message(pool, "release_metadata_snap");
  }
}
