import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeDirectories } from "./make-directories.ts";

test("makes what is missing, and ends where nothing can be made", (t) => {
  const base = mkdtempSync(join(tmpdir(), "lamella-directories-"));
  t.after(() => rmSync(base, { recursive: true }));
  makeDirectories(join(base, "a/b/c"), 0o700);
  assert.equal(statSync(join(base, "a/b/c")).mode & 0o777, 0o700);
  makeDirectories(join(base, "a/b/c"), 0o755);
  assert.equal(statSync(join(base, "a/b/c")).mode & 0o777, 0o700);
  writeFileSync(join(base, "file"), "");
  assert.throws(() => makeDirectories(join(base, "file/below")), { code: /ENOTDIR|EEXIST/ });
  assert.throws(() => makeDirectories("/proc/nowhere/below"), { code: /ENOENT|EACCES|EPERM/ });
});
