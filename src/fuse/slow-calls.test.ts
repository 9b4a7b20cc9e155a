import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { workerUrl } from "../fs/worker-pool.ts";
import * as raw from "../sys/raw.ts";
import { SlowCalls, slowCallRing } from "./slow-calls.ts";

test("calls are made in order by another thread, which answers each by its number", async (t) => {
  const pair = raw.socketpair();
  assert.ok(typeof pair !== "number");
  const [device, kernel] = pair;
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-slow-calls-"));
  const fd = fs.openSync(join(folder, "file"), "w+");
  fs.writeSync(fd, "0123456789");
  const ring = slowCallRing();
  const calls = new SlowCalls(ring, device);
  // Those that are begun before the thread is there wait for it; more than the ring holds are refused.
  for (let i = 0; i < 64; i++) assert.equal(calls.begin({ call: "pread64", fd, offset: i % 8, length: 4 }, i, 7), true);
  assert.equal(calls.begin({ call: "fsync", fd, offset: 0, length: 0 }, 64, 7), false);
  const worker = new Worker(workerUrl(import.meta.url, "./slow-calls-worker"), { workerData: { ring } });
  t.after(async () => {
    await worker.terminate();
    for (const each of [device, kernel, fd]) raw.close(each);
    fs.rmSync(folder, { recursive: true });
  });
  const ready = new Promise((settle) => worker.once("message", settle));
  await ready;
  const next = (length: number): Buffer => {
    const bytes = Buffer.alloc(length);
    for (let n = 0; n < length; n += raw.read(kernel, bytes.subarray(n)));
    return bytes;
  };
  for (let i = 0; i < 64; i++) {
    const length = Math.min(4, 10 - (i % 8));
    const reply = next(16 + length);
    assert.deepEqual([reply.readUInt32LE(0), reply.readInt32LE(4)], [16 + length, 0]);
    assert.deepEqual([reply.readUInt32LE(8), reply.readUInt32LE(12)], [i, 7]);
    assert.equal(reply.toString("latin1", 16), "0123456789".slice(i % 8, (i % 8) + 4));
  }
  calls.begin({ call: "fsync", fd, offset: 0, length: 0 }, 1, 2);
  calls.begin({ call: "fdatasync", fd: 12345, offset: 0, length: 0 }, 3, 4);
  assert.deepEqual([next(16).readInt32LE(4), next(16).readInt32LE(4)], [0, -9]);
  calls.begin({ call: "fsync", fd, offset: 0, length: 0 }, 5, 6);
  calls.finish();
  assert.equal(raw.waitReadable(kernel, 0), 1);
});
