import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import * as C from "../sys/constants.ts";
import { open } from "../sys/syscalls.ts";
import { diskUsage } from "./disk-usage.ts";
import { walkSync, walkTree } from "./walk.ts";
import { WorkShare } from "./walk-share.ts";

const home = fs.mkdtempSync(join(tmpdir(), "lamella-walk-"));
after(() => execFileSync("rm", ["-rf", home]));

function paths(root: string, visit: (path: string) => unknown = () => undefined): string[] {
  const seen: string[] = [];
  using fd = open(root, C.O_RDONLY | C.O_DIRECTORY);
  walkSync(fd.fd, ({ path }) => {
    seen.push(path);
    return visit(path);
  });
  return seen;
}

const small = join(home, "small");
fs.mkdirSync(join(small, "a/b"), { recursive: true });
fs.mkdirSync(join(small, "a-b"));
fs.writeFileSync(join(small, "a/b/f"), "x".repeat(10_000));
fs.linkSync(join(small, "a/b/f"), join(small, "a-b/g"));
fs.symlinkSync("/", join(small, "a.link"));
fs.writeFileSync(Buffer.from(join(small, "\xff"), "latin1"), "");

describe("walkSync", () => {
  it("visits in byte order, a directory before what it holds, and follows no link", () => {
    assert.deepEqual(paths(small), ["", "a", "a/b", "a/b/f", "a-b", "a-b/g", "a.link", "\xff"]);
  });

  it("does not enter what the visitor declines", () => {
    assert.deepEqual(
      paths(small, (path) => path !== "a"),
      ["", "a", "a-b", "a-b/g", "a.link", "\xff"],
    );
    assert.deepEqual(
      paths(small, () => false),
      [""],
    );
  });

  it("closes its descriptors when the visitor throws", () => {
    const before = fs.readdirSync("/proc/self/fd").length;
    assert.throws(() =>
      paths(small, (path) => {
        if (path === "a/b/f") throw new Error("enough");
      }),
    );
    assert.equal(fs.readdirSync("/proc/self/fd").length, before);
  });

  it("passes over what vanishes", () => {
    const tree = join(home, "vanishing");
    fs.mkdirSync(join(tree, "b"), { recursive: true });
    fs.writeFileSync(join(tree, "c"), "");
    const seen = paths(tree, (path) => {
      if (path === "") return;
      fs.rmSync(join(tree, "b"), { recursive: true, force: true });
    });
    assert.deepEqual(seen, ["", "b", "c"]);
  });

  it("reaches below the longest path the kernel takes", () => {
    const deep = join(home, "deep");
    fs.mkdirSync(deep);
    // 50 levels of 200 bytes, made two at a time from inside.
    const name = "n".repeat(200);
    execFileSync(
      "sh",
      ["-c", `i=0; while [ $i -lt 50 ]; do mkdir ${name} && cd -P ${name} || exit 1; i=$((i+1)); done`],
      {
        cwd: deep,
      },
    );
    assert.equal(paths(deep).length, 51);
  });
});

describe("walkTree", () => {
  it("counts and sums, hard links once", async () => {
    assert.deepEqual(await walkTree(small), {
      directories: 4,
      regularFiles: 3,
      symlinks: 1,
      others: 0,
      entries: 8,
      inodes: 7,
      sizeBytes: 10_001,
      allocatedBytes: Number(execFileSync("du", ["-s", "-B1", small], { encoding: "utf8" }).split("\t")[0]),
    });
  });

  it("says what du says, with any number of threads", async () => {
    const du = (...options: string[]): number =>
      Number(execFileSync("du", ["-s", ...options, "/usr/share"], { encoding: "utf8" }).split("\t")[0]);
    const expected = { sizeBytes: du("-B1"), inodes: du("--inodes") };
    for (const threads of [1, 2, 4]) assert.deepEqual(await diskUsage("/usr/share", { threads }), expected);
  });

  it("stays on one file system when asked to", async () => {
    const whole = await walkTree("/dev");
    const one = await walkTree("/dev", { oneFileSystem: true });
    assert.ok(one.entries <= whole.entries);
    const du = execFileSync("du", ["-xs", "--inodes", "/dev"], { encoding: "utf8" });
    assert.equal(one.inodes, Number(du.split("\t")[0]));
  });

  it("names the path it could not read", async () => {
    await assert.rejects(walkTree(join(home, "missing")), { code: "ENOENT" });
  });

  it("ends when it is aborted", async () => {
    await assert.rejects(walkTree("/usr", { signal: AbortSignal.abort() }), { kind: "canceled" });
    assert.ok((await walkTree(small)).entries > 0);
  });
});

describe("WorkShare", () => {
  it("gives work back last in, first out, and is over when nobody has any", () => {
    const share = WorkShare.start("first");
    assert.equal(share.take(), "first");
    assert.equal(share.give("second"), true);
    assert.equal(share.give("third"), true);
    assert.equal(share.take(), "third");
    assert.equal(share.take(), "second");
    assert.equal(share.over, false);
    assert.equal(share.take(), undefined);
    assert.equal(share.over, true);
    assert.equal(new WorkShare(share.memory).take(), undefined);
  });

  it("leaves with its finder what does not fit", () => {
    const share = WorkShare.start("x");
    assert.equal(share.give("y".repeat(1 << 20)), false);
    let given = 0;
    while (share.give("z".repeat(2000))) given++;
    assert.ok(given > 100);
    for (let i = 0; i < given; i++) assert.equal(share.take()?.length, 2000);
    assert.equal(share.take(), "x");
  });
});
