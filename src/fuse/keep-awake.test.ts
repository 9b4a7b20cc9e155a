import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { workerUrl } from "../fs/worker-pool.ts";
import * as raw from "../sys/raw.ts";
import { awakeMemory, KeepAwake } from "./keep-awake.ts";

/** Threads of this process in the lowest class (proc_pid_stat(5), the 41st field). */
function idleClass(): number {
  const policies = readdirSync("/proc/self/task").map((thread) => {
    const text = readFileSync(`/proc/self/task/${thread}/stat`, "latin1");
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[38]);
  });
  return policies.filter((policy) => policy === raw.SCHED_IDLE).length;
}

test("a thread of the lowest class spins while requests come quickly, and sleeps again", async () => {
  const memory = awakeMemory();
  const asleep = (): boolean => Atomics.load(new Int32Array(memory), 1) === 1;
  const untilAsleep = async (): Promise<void> => {
    while (!asleep()) await sleep(1);
  };
  const thread = new Worker(workerUrl(import.meta.url, "./keep-awake-worker"), { workerData: { memory } });
  try {
    await once(thread, "message");
    await untilAsleep();
    assert.equal(idleClass(), 1);
    const awake = new KeepAwake(memory);
    for (let i = 0; i < 31; i++) awake.requested();
    assert.ok(asleep());
    // The first burst has no beginning that is known.
    for (let i = 0; i < 33; i++) awake.requested();
    assert.ok(!asleep());
    await untilAsleep();
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 16; j++) awake.requested();
      await sleep(10);
    }
    assert.ok(asleep(), "requests that come slowly wake nobody");
  } finally {
    await thread.terminate();
  }
});
