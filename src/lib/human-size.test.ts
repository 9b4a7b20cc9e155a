import assert from "node:assert/strict";
import { test } from "node:test";
import { humanAge, humanDuration } from "./human-duration.ts";
import { humanSize } from "./human-size.ts";

test("sizes have decimal units and three digits", () => {
  assert.equal(humanSize(0), "0B");
  assert.equal(humanSize(999), "999B");
  assert.equal(humanSize(1000), "1kB");
  assert.equal(humanSize(1_234_567), "1.23MB");
  assert.equal(humanSize(187_000_000), "187MB");
  assert.equal(humanSize(2.5e18), "2.5EB");
});

test("ages use Docker's words", () => {
  const second = 1000;
  const hour = 3600 * second;
  const day = 24 * hour;
  const cases: [number, string][] = [
    [10, "Less than a second"],
    [second, "1 second"],
    [59 * second, "59 seconds"],
    [90 * second, "About a minute"],
    [59 * 60 * second, "59 minutes"],
    [hour, "About an hour"],
    [47 * hour, "47 hours"],
    [2 * day, "2 days"],
    [14 * day, "2 weeks"],
    [61 * day, "2 months"],
    [3 * 365 * day, "3 years"],
  ];
  for (const [milliseconds, words] of cases) assert.equal(humanAge(milliseconds), words);
});

test("durations keep three digits", () => {
  assert.equal(humanDuration(0.04), "0.0ms");
  assert.equal(humanDuration(9.96), "10ms");
  assert.equal(humanDuration(999.7), "1.00s");
  assert.equal(humanDuration(125_400), "2m 5s");
});
