/** The machine itself: that what the other tests of this folder count on is there. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("runs a Debian kernel older than overlay's mount API", () => {
  assert.match(readFileSync("/proc/version", "utf8"), /^Linux version (6\.1|5\.10)\./);
});

test("has the module of overlay loaded", () => {
  assert.match(readFileSync("/proc/filesystems", "utf8"), /\toverlay\n/);
});

test("has the device mapper's thin pools", () => {
  assert.match(execFileSync("dmsetup", ["targets"], { encoding: "utf8" }), /^thin-pool /m);
});
