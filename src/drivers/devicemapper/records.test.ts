import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { DeviceIds } from "./device-ids.ts";
import { DeviceRecords } from "./records.ts";
import { judgeTransaction } from "./thin-devices.ts";

function inFolder(body: (records: DeviceRecords, folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "lamella-records-"));
  try {
    body(new DeviceRecords(folder), folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const record = { deviceId: 7, sizeBytes: 10737418240, transactionId: 3, initialized: false, deleted: false };

test("records are files in Docker's form", () => {
  inFolder((records, folder) => {
    records.write("abc", record);
    const text = '{"device_id":7,"size":10737418240,"transaction_id":3,"initialized":false,"deleted":false}';
    assert.equal(readFileSync(`${folder}/abc`, "utf8"), text);
    assert.deepEqual(records.read("abc"), record);
    assert.equal(records.read("abd"), undefined);

    records.writeDeviceSet({ nextDeviceId: 9, baseUuid: "u", baseFileSystem: "xfs" });
    const facts = '{"next_device_id":9,"BaseDeviceUUID":"u","BaseDeviceFilesystem":"xfs"}';
    assert.equal(readFileSync(`${folder}/deviceset-metadata`, "utf8"), facts);

    records.writeTransaction({ openId: 4, record: "base", deviceId: 1 });
    const transaction = '{"open_transaction_id":4,"device_hash":"","device_id":1}';
    assert.equal(readFileSync(`${folder}/transaction-metadata`, "utf8"), transaction);
    assert.deepEqual(records.transaction(), { openId: 4, record: "base", deviceId: 1 });
    assert.deepEqual(records.names(), ["abc"]);
  });
});

test("a record gets a name that nothing has; what a killed write left is swept", () => {
  inFolder((records, folder) => {
    records.write(".abc-creating-1", record);
    records.write("abc", record);
    assert.throws(
      () => records.rename(".abc-creating-1", "abc"),
      (error) => hasCode(error, "EEXIST"),
    );
    writeFileSync(`${folder}/.abc.0123.tmp`, "{");
    assert.deepEqual(records.names().sort(), [".abc-creating-1", "abc"]);
    assert.equal(records.sweep(), 1);
    assert.deepEqual(readdirSync(folder).sort(), [".abc-creating-1", "abc"]);
  });
});

test("a broken record is data loss, and says which", () => {
  inFolder((records, folder) => {
    for (const text of ["", "{", "[]", '{"device_id":-1,"size":1,"transaction_id":1}', '{"device_id":1}']) {
      writeFileSync(`${folder}/abc`, text);
      assert.throws(
        () => records.read("abc"),
        (error) => isLamellaError(error, "data_loss") && /metadata\/abc/.test(error.message),
      );
    }
  });
});

test("a transaction is rolled back when the pool has not its number", () => {
  const open = { openId: 5, record: "abc", deviceId: 7 };
  assert.equal(judgeTransaction(undefined, 5), "finished");
  assert.equal(judgeTransaction(open, 5), "finished");
  assert.equal(judgeTransaction(open, 4), "roll back");
  // The pool went on without us: nothing here is to be undone.
  assert.equal(judgeTransaction(open, 6), "foreign");
});

test("device numbers: in turn, around the end, those in use left out", () => {
  const ids = new DeviceIds([1, 2, 0xffffff], 0xfffffd);
  assert.deepEqual([ids.next(), ids.next(), ids.next(), ids.next()], [0xfffffe, 0, 3, 4]);
  ids.free(3);
  assert.equal(ids.next(), 5);
  const full = new DeviceIds([], 0);
  for (let i = 0; i <= 0xffffff; i++) full.use(i);
  assert.equal(full.next(), undefined);
  full.free(12345);
  assert.equal(full.next(), 12345);
  assert.equal(full.next(), undefined);
});
