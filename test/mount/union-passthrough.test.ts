/**
 * Large files of a lower layer, which the kernel reads without asking: what those see who have one open when it is copied up,
 * and those who come after. Sparse files stand in for large ones.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { UnionServer } from "../support/union-server.ts";

const SIZE = 300 * 1024 * 1024;

interface Scene extends AsyncDisposable {
  readonly file: string;
  readonly below: string;
}

/** A union with one large file that begins with `old`. */
async function largeFile(t: TestContext): Promise<Scene | undefined> {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-large-"));
  const at = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(at(name));
  fs.writeFileSync(at("lower/file"), "old");
  fs.truncateSync(at("lower/file"), SIZE);
  const server = new UnionServer();
  await server.mount(at("merged"), {
    lowers: [at("lower")],
    upper: at("upper"),
    work: at("work"),
    prefix: "trusted.overlay.",
    redirectDir: true,
    metacopy: true,
  });
  return {
    file: at("merged/file"),
    below: at("lower/file"),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      fs.rmSync(folder, { recursive: true });
    },
  };
}

function begin(fd: number): string {
  const bytes = Buffer.alloc(3);
  fs.readSync(fd, bytes, 0, 3, 0);
  return bytes.toString();
}

test("whoever opens a large file after its copy-up sees the copy, by every name and descriptor", async (t) => {
  await using at = await largeFile(t);
  if (!at) return;
  const before = fs.openSync(at.file, "r");
  const { ino } = fs.fstatSync(before);
  assert.equal(begin(before), "old");
  const writer = fs.openSync(at.file, "r+");
  fs.writeSync(writer, "new", 0);
  fs.writeSync(writer, "end", SIZE);
  const after = fs.openSync(at.file, "r");
  assert.equal(begin(after), "new");
  // The file is one: its number and attributes are the same however they are asked for.
  for (const fd of [before, writer, after]) {
    const stat = fs.fstatSync(fd);
    assert.deepEqual([stat.ino, stat.size], [ino, SIZE + 3]);
  }
  fs.chmodSync(at.file, 0o640);
  fs.renameSync(at.file, `${at.file}.moved`);
  assert.equal(fs.fstatSync(before).mode & 0o777, 0o640);
  fs.unlinkSync(`${at.file}.moved`);
  for (const fd of [before, writer, after]) assert.equal(fs.fstatSync(fd).nlink, 0);
  assert.equal(begin(after), "new");
  for (const fd of [before, writer, after]) fs.closeSync(fd);
  const lower = fs.openSync(at.below, "r");
  assert.equal(begin(lower), "old");
  fs.closeSync(lower);
});

test("a large file that is cut while it is open is opened as it is then", async (t) => {
  await using at = await largeFile(t);
  if (!at) return;
  const before = fs.openSync(at.file, "r");
  fs.truncateSync(at.file, 5);
  assert.equal(fs.statSync(at.file).size, 5);
  assert.equal(fs.readFileSync(at.file, "latin1"), "old\0\0");
  fs.writeFileSync(at.file, "anew");
  assert.equal(fs.readFileSync(at.file, "latin1"), "anew");
  fs.closeSync(before);
  assert.equal(fs.statSync(at.below).size, SIZE);
});

test("a chmod alone leaves a large file to be read where it lies", async (t) => {
  await using at = await largeFile(t);
  if (!at) return;
  const before = fs.openSync(at.file, "r");
  fs.chmodSync(at.file, 0o600);
  const after = fs.openSync(at.file, "r");
  for (const fd of [before, after]) assert.equal(begin(fd), "old");
  fs.closeSync(before);
  fs.closeSync(after);
  sh("mv file other; cat other | head -c 3 | grep old", join(at.file, ".."));
});
