import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { didYouMean } from "./dockerfile-error.ts";
import { durationNs } from "./duration.ts";
import { parsePorts } from "./ports.ts";

test("durations are Go's", () => {
  const table: Record<string, number | undefined> = {
    "0": 0,
    "0s": 0,
    "1ns": 1,
    "1.5ms": 1.5e6,
    "1m30s": 90e9,
    "2h": 7200e9,
    ".5s": 5e8,
    "1.s": 1e9,
    "+1s": 1e9,
    "3µs": 3000,
    "": undefined,
    "5": undefined,
    "-1s": undefined,
    "1 s": undefined,
    s: undefined,
    "1d": undefined,
    "1s ": undefined,
    "99999h": undefined,
    ".s": undefined,
  };
  for (const [text, ns] of Object.entries(table)) assert.equal(durationNs(text), ns, text);
});

test("ports are normalised, ranges expanded", () => {
  assert.deepEqual(parsePorts(["80", "53/UDP", "8000-8002", "80/tcp"]), [
    "53/udp",
    "80/tcp",
    "8000/tcp",
    "8001/tcp",
    "8002/tcp",
  ]);
  for (const word of ["", "x", "65536", "2-1", "80/icmp", "-1", "80:80", "1-99999", "80/"]) {
    assert.throws(
      () => parsePorts([word]),
      (error) => isLamellaError(error) && error.code === "INVALID_PORT",
      word,
    );
  }
});

test("mistyped words get the nearest one", () => {
  assert.equal(didYouMean("RNU", ["RUN", "ENV"]), "did you mean RUN?");
  assert.equal(didYouMean("xyzzy", ["RUN", "ENV"]), undefined);
  assert.equal(didYouMean("a".repeat(1e6), ["RUN"]), undefined);
});
