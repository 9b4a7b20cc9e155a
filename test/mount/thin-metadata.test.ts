/** Reading a thin pool's metadata, against thin-provisioning-tools: thin_restore writes them, thin_delta says what differs. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import {
  type BlockDifference,
  compareDevices,
  dataBlockSectors,
} from "../../src/drivers/devicemapper/thin-metadata.ts";
import { isLamellaError } from "../../src/errors/lamella-error.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-thin-"));
after(() => rmSync(directory, { recursive: true }));

function toolsLack(): string | undefined {
  try {
    execFileSync("thin_restore", ["--version"], { stdio: "pipe" });
    return undefined;
  } catch {
    return "thin-provisioning-tools are not installed";
  }
}

/** Block of the device → block of the pool. */
type Mappings = ReadonlyMap<number, number>;

/** A pool's metadata with these devices, as thin_restore makes them. Devices that begin alike share no nodes there. */
function makeMetadata(devices: ReadonlyMap<number, Mappings>): Buffer {
  const mapping = ([block, data]: readonly [number, number]): string =>
    `<single_mapping origin_block="${block}" data_block="${data}" time="1"/>`;
  const device = ([id, mappings]: readonly [number, Mappings]): string =>
    `<device dev_id="${id}" mapped_blocks="${mappings.size}" transaction="0" creation_time="0" snap_time="0">
${[...mappings]
  .sort(([a], [b]) => a - b)
  .map(mapping)
  .join("\n")}
</device>`;
  const xml = `<superblock uuid="" time="1" transaction="0" flags="0" version="2" data_block_size="128" nr_data_blocks="100000000">
${[...devices].map(device).join("\n")}
</superblock>`;
  const [input, output] = [join(directory, "pool.xml"), join(directory, "pool.bin")];
  writeFileSync(input, xml);
  writeFileSync(output, "");
  truncateSync(output, 32 << 20);
  execFileSync("thin_restore", ["-q", "-i", input, "-o", output], { stdio: "pipe" });
  return readFileSync(output);
}

function compare(metadata: Buffer, origin: number, device: number): BlockDifference[] {
  return compareDevices((block) => metadata.subarray(block * 4096, (block + 1) * 4096), 0, origin, device);
}

function expected(origin: Mappings, device: Mappings): BlockDifference[] {
  const blocks = [...new Set([...origin.keys(), ...device.keys()])].sort((a, b) => a - b);
  return blocks
    .map((block) => ({ block, data: device.get(block), originData: origin.get(block) }))
    .filter(({ data, originData }) => data !== originData);
}

test("finds the blocks that differ, in trees of any size", (t) => {
  const lack = toolsLack();
  if (lack !== undefined) return t.skip(lack);
  const mappings = fc
    .uniqueArray(fc.tuple(fc.nat(5_000_000), fc.nat(99_999_999)), { selector: ([block]) => block, maxLength: 800 })
    .map((pairs) => new Map(pairs));
  fc.assert(
    fc.property(mappings, mappings, (origin, changes) => {
      const device = new Map([...origin, ...changes]);
      for (const block of [...origin.keys()].slice(0, 3)) device.delete(block);
      const metadata = makeMetadata(
        new Map([
          [1, origin],
          [0xffffff, device],
          [2, origin],
        ]),
      );
      assert.equal(dataBlockSectors(metadata.subarray(0, 4096)), 128);
      assert.deepEqual(compare(metadata, 1, 0xffffff), expected(origin, device));
      assert.deepEqual(compare(metadata, 0xffffff, 1), expected(device, origin));
      assert.deepEqual(compare(metadata, 1, 2), []);
    }),
    { numRuns: 6 },
  );
});

test("agrees with thin_delta", (t) => {
  const lack = toolsLack();
  if (lack !== undefined) return t.skip(lack);
  const origin = new Map(Array.from({ length: 5000 }, (_, i) => [2 * i, i]));
  const device = new Map([...origin].map(([block, data]) => [block, block % 1000 === 0 ? 9000 + block : data]));
  for (let i = 0; i < 20; i++) device.set(4001 + 2 * i, 50_000 + i);
  const metadata = makeMetadata(
    new Map([
      [3, origin],
      [4, device],
    ]),
  );
  const xml = execFileSync("thin_delta", ["--snap1", "3", "--snap2", "4", join(directory, "pool.bin")], {
    encoding: "utf8",
  });
  const told: number[] = [];
  for (const [, begin, length] of xml.matchAll(/<(?:different|right_only|left_only) begin="(\d+)" length="(\d+)"/g))
    for (let i = 0; i < Number(length); i++) told.push(Number(begin) + i);
  assert.deepEqual(
    compare(metadata, 3, 4).map(({ block }) => block),
    told.sort((a, b) => a - b),
  );
});

test("says so when there is no such device, or no sense in a block", (t) => {
  const lack = toolsLack();
  if (lack !== undefined) return t.skip(lack);
  const metadata = makeMetadata(new Map([[3, new Map([[0, 1]])]]));
  assert.equal(dataBlockSectors(Buffer.alloc(4096)), undefined);
  const isDataLoss = (error: unknown): boolean => isLamellaError(error, "data_loss");
  assert.throws(() => compare(metadata, 3, 4), isDataLoss);
  assert.throws(() => compare(metadata, 2, 3), isDataLoss);
  assert.throws(() => compareDevices(() => Buffer.alloc(4096, 0xff), 0, 1, 2), isDataLoss);
});
