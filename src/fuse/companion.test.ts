import assert from "node:assert/strict";
import { test } from "node:test";
import * as raw from "../sys/raw.ts";
import { Companion } from "./companion.ts";

function processors(): number {
  const set = new Uint8Array(1024);
  assert.ok(raw.sched_getaffinity(set) > 0);
  let count = 0;
  for (const byte of set) for (let bits = byte; bits > 0; bits &= bits - 1) count++;
  return count;
}

test("the thread stays with one client, and is free again with several", () => {
  const all = processors();
  const companion = new Companion();
  const ask = (times: number, pids: readonly number[]): void => {
    for (let i = 0; i < times; i++) companion.asked(pids[i % pids.length] as number);
  };
  ask(63, [process.pid]);
  assert.equal(processors(), all);
  ask(1, [process.pid]);
  assert.equal(processors(), 1);
  // The kernel's own requests count for nobody.
  ask(640, [0]);
  assert.equal(processors(), 1);
  ask(64, [process.pid, 1]);
  assert.equal(processors(), all);
  // Of one that is gone nothing can be told.
  ask(64, [2 ** 22 + 1]);
  assert.equal(processors(), all);
});
