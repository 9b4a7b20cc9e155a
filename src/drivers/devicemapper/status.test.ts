import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { dockerSize } from "./docker-size.ts";
import { checkFreeSpace, checkWritable, parsePoolStatus, parsePoolTable } from "./pool-status.ts";
import { statusLines } from "./status-lines.ts";

const target = (parameters: string, type = "thin-pool") => ({ start: 0, length: 1 << 21, type, parameters });

test("sizes are those of docker info", () => {
  const sizes = { 65536: "65.54kB", 10737418240: "10.74GB", 107374182400: "107.4GB", 0: "0B", 999: "999B", 1e6: "1MB" };
  for (const [bytes, text] of Object.entries(sizes)) assert.equal(dockerSize(Number(bytes)), text);
});

test("a pool's status and table", () => {
  const text = "3 430/4096 486/16384 - rw discard_passdown queue_if_no_space - 1024";
  assert.deepEqual(parsePoolStatus("p", target(text)), {
    transactionId: 3,
    usedMetadataBlocks: 430,
    totalMetadataBlocks: 4096,
    usedDataBlocks: 486,
    totalDataBlocks: 16384,
    heldRoot: undefined,
    readOnly: false,
  });
  assert.equal(parsePoolStatus("p", target("3 430/4096 486/16384 77 rw no_discard_passdown")).heldRoot, 77);
  const table = parsePoolTable(target("7:1 7:0 128 32768 1 skip_block_zeroing"));
  assert.deepEqual(table, { metadataDevice: "7:1", dataDevice: "7:0", blockBytes: 65536 });
});

test("a pool that has failed, is read-only, or is none", () => {
  assert.throws(
    () => parsePoolStatus("p", target("Fail")),
    (error) => isLamellaError(error, "data_loss"),
  );
  assert.throws(() => parsePoolStatus("p", target("7:0 0", "linear")), /devmapper: Device p is not a thin pool/);
  for (const mode of [
    "ro discard_passdown queue_if_no_space - 1024",
    "rw discard_passdown error_if_no_space needs_check 1",
  ]) {
    const status = parsePoolStatus("p", target(`3 1/2 3/4 - ${mode}`));
    assert.throws(() => checkWritable("p", status), /the thin pool p is read-only/);
  }
});

test("the share that must be free, in Docker's words", () => {
  const status = parsePoolStatus("p", target("3 91/100 90/100 - rw"));
  checkFreeSpace(status, 9);
  checkFreeSpace(status, 0);
  assert.throws(
    () => checkFreeSpace(status, 10),
    /^LamellaError: devmapper: Thin Pool has 9 free metadata blocks which is less than minimum required 10 free metadata blocks\. Create more free metadata space in thin pool or use dm\.min_free_space option to change behavior$/,
  );
  assert.throws(
    () => checkFreeSpace(status, 11),
    /Thin Pool has 10 free data blocks which is less than minimum required 11 free data blocks\. Create more free space in/,
  );
  // At least one block, however small the pool.
  assert.throws(() => checkFreeSpace(parsePoolStatus("p", target("3 1/2 4/4 - rw")), 1), /required 1 free data blocks/);
});

test("the lines of docker info, in its order", () => {
  const facts = {
    poolName: "docker-thinpool",
    status: parsePoolStatus("p", target("3 430/4096 486/16384 - rw")),
    blockBytes: 65536,
    baseBytes: 10737418240,
    baseFileSystem: "xfs",
    data: undefined,
    metadata: undefined,
    minFreePercent: 10,
    deferredRemoval: true,
    deferredDeletion: false,
    deletedDevices: 2,
  };
  assert.deepEqual(statusLines(facts), [
    ["Pool Name", "docker-thinpool"],
    ["Pool Blocksize", "65.54kB"],
    ["Base Device Size", "10.74GB"],
    ["Backing Filesystem", "xfs"],
    ["Udev Sync Supported", "true"],
    ["Data Space Used", "31.85MB"],
    ["Data Space Total", "1.074GB"],
    ["Data Space Available", "1.042GB"],
    ["Metadata Space Used", "1.761MB"],
    ["Metadata Space Total", "16.78MB"],
    ["Metadata Space Available", "15.02MB"],
    ["Thin Pool Minimum Free Space", "107.3MB"],
    ["Deferred Removal Enabled", "true"],
    ["Deferred Deletion Enabled", "false"],
    ["Deferred Deleted Device Count", "2"],
  ]);
  const [data, metadata] = [{ device: "/dev/loop0", file: "/nowhere/data" }, { device: "/dev/sdb" }];
  const keys = statusLines({ ...facts, data, metadata }).slice(5, 8);
  assert.deepEqual(keys, [
    ["Data file", "/dev/loop0"],
    ["Metadata file", "/dev/sdb"],
    ["Data loop file", "/nowhere/data"],
  ]);
});
