import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { O_DIRECTORY, O_PATH } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { locate, makeDirectories } from "./rooted-path.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-rooted-"));
after(() => rmSync(directory, { recursive: true }));
mkdirSync(join(directory, "root/a/b"), { recursive: true });
writeFileSync(join(directory, "root/a/f"), "");
writeFileSync(join(directory, "outside"), "");
for (const [name, target] of Object.entries({
  abs: "/a/b",
  up: "../../../..",
  host: directory,
  dangling: "/x/y",
  loop: "loop",
  chain: "abs/../f",
}))
  symlinkSync(target, join(directory, "root", name));
const root = sys.open(join(directory, "root"), O_PATH | O_DIRECTORY);
after(() => root[Symbol.dispose]());

function pathOf(path: string, followLast = true): { path: string; exists: boolean; missing: readonly string[] } {
  using found = locate(root.fd, path, { followLast });
  return { path: found.path, exists: found.stat !== undefined, missing: found.missing };
}

test("resolves as a chroot would", () => {
  assert.deepEqual(pathOf("/abs"), { path: "/a/b", exists: true, missing: [] });
  assert.deepEqual(pathOf("chain"), { path: "/a/f", exists: true, missing: [] });
  assert.deepEqual(pathOf("up/a/../../.."), { path: "/", exists: true, missing: [] });
  assert.deepEqual(pathOf("abs", false), { path: "/abs", exists: true, missing: [] });
  assert.deepEqual(pathOf("abs/", false), { path: "/a/b", exists: true, missing: [] });
});

test("tells what is missing, through dangling links too", () => {
  assert.deepEqual(pathOf("a/new/er"), { path: "/a/new/er", exists: false, missing: ["new", "er"] });
  assert.deepEqual(pathOf("dangling/z"), { path: "/x/y/z", exists: false, missing: ["x", "y", "z"] });
  assert.deepEqual(pathOf("a/new/../f"), { path: "/a/f", exists: true, missing: [] });
});

test("never leaves the root", () => {
  const top = directory.slice(1).split("/")[0];
  assert.deepEqual(pathOf("host/outside").missing[0], top);
  assert.equal(pathOf("/../outside").exists, false);
  assert.throws(() => pathOf("loop"), { code: "ELOOP" });
  assert.throws(() => pathOf("a/f/x"), { code: "ENOTDIR" });
});

test("makes directories where the path leads", () => {
  makeDirectories(root.fd, "dangling/deep", { mode: 0o751, uid: 0, gid: 0 })[Symbol.dispose]();
  const stat = sys.statx(root.fd, "x/y/deep");
  assert.equal(stat.mode & 0o7777, 0o751);
  assert.throws(() => makeDirectories(root.fd, "a/f", { mode: 0o755, uid: 0, gid: 0 }), { code: "ENOTDIR" });
});
