import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode } from "../errors/syscall-error.ts";
import { makeDirectory, writeDurably } from "./durable-file.ts";
import { lockFile, tryLockFile } from "./locks.ts";

test("writes whole files, replaces them, and leaves nothing else", (t) => {
  const at = mkdtempSync(join(tmpdir(), "lamella-durable-"));
  t.after(() => rmSync(at, { recursive: true }));
  const file = join(at, "file");
  writeDurably(file, "first", { mode: 0o600 });
  assert.equal(statSync(file).mode & 0o777, 0o600);
  writeDurably(file, Buffer.from("second"), { durable: false });
  assert.equal(readFileSync(file, "utf8"), "second");
  writeDurably(join(at, "bytes"), "\xff\xfe");
  assert.deepEqual([...readFileSync(join(at, "bytes"))], [255, 254]);
  makeDirectory(join(at, "dir"), 0o700);
  makeDirectory(join(at, "dir"), 0o700);
  // A directory cannot be replaced by a file: the error leaves no temporary file.
  assert.throws(
    () => writeDurably(join(at, "dir"), "x"),
    (error) => hasCode(error, "EISDIR"),
  );
  assert.throws(
    () => writeDurably(join(at, "none/file"), "x"),
    (error) => hasCode(error, "ENOENT"),
  );
  assert.deepEqual(readdirSync(at).sort(), ["bytes", "dir", "file"]);
});

test("locks exclude within a process and between processes, and end with their holder", (t) => {
  const at = mkdtempSync(join(tmpdir(), "lamella-locks-"));
  t.after(() => rmSync(at, { recursive: true }));
  const path = join(at, "lock");
  const other = (...options: string[]): number | null => spawnSync("flock", ["-n", ...options, path, "true"]).status;
  {
    using _shared = lockFile(path, "shared");
    using again = tryLockFile(path, "shared");
    assert.notEqual(again, undefined);
    assert.equal(tryLockFile(path, "exclusive"), undefined);
    assert.equal(other("-x"), 1);
    assert.equal(other("-s"), 0);
  }
  using _exclusive = lockFile(path, "exclusive");
  assert.equal(tryLockFile(path, "shared"), undefined);
  assert.equal(other("-s"), 1);
});
