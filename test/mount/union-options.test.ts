/** What the options of a union do, and what they have in common with the kernel's. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { UnionFileSystem } from "../../src/fuse/union/union-file-system.ts";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { mountKernelUnion } from "../support/kernel-union.ts";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { UnionServer } from "../support/union-server.ts";

interface Scene extends AsyncDisposable {
  readonly path: (name: string) => string;
  readonly merged: string;
  readonly server: UnionServer;
  readonly options: UnionOptions & { readonly upper: string; readonly work: string };
}

function scene(
  t: TestContext,
  fill: string,
  options: Omit<Partial<UnionOptions>, "upper" | "work"> = {},
): Scene | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-union-"));
  fs.chmodSync(folder, 0o755);
  const path = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(path(name));
  sh(fill, path("lower"));
  const server = new UnionServer();
  return {
    path,
    merged: path("merged"),
    server,
    options: {
      lowers: [path("lower")],
      upper: path("upper"),
      work: path("work"),
      prefix: "trusted.overlay.",
      redirectDir: true,
      metacopy: true,
      ...options,
    },
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      umount(path("merged"));
      execFileSync("rm", ["-rf", folder]);
    },
  };
}

const refused = { code: "INCOMPATIBLE_WORK", message: /work\/incompat\/volatile: the last mount was volatile/ };

test("what a volatile mount leaves keeps the kernel and us from the layer, whoever left it", async (t) => {
  await using at = scene(t, "echo x > file");
  if (!at) return;
  await at.server.mount(at.merged, { ...at.options, volatile: true });
  fs.writeFileSync(join(at.merged, "file"), "y");
  await at.server.unmount();
  assert.throws(() => mountKernelUnion(at.merged, at.options), { code: "EINVAL" });
  assert.throws(() => new UnionFileSystem(at.options), refused);
  fs.rmSync(at.path("work/work/incompat/volatile"), { recursive: true });
  const strings = `volatile,lowerdir=${at.path("lower")},upperdir=${at.path("upper")},workdir=${at.path("work")}`;
  sys.mount("overlay", at.merged, "overlay", 0, strings);
  umount(at.merged);
  assert.throws(() => new UnionFileSystem(at.options), refused);
  fs.rmSync(at.path("work/work/incompat/volatile"), { recursive: true });
  await at.server.mount(at.merged, at.options);
  assert.equal(fs.readFileSync(join(at.merged, "file"), "utf8"), "y");
});

test("owners are shown by ranges, and stored by them", async (t) => {
  const users = {
    ranges: [
      { disk: 0, shown: 1000, length: 1 },
      { disk: 1, shown: 20000, length: 100 },
    ],
  };
  const fill = "echo x > root; echo x > bin; chown 2 bin; echo x > other; chown 4000 other; chmod 777 .";
  await using at = scene(t, fill, { users, groups: { ranges: [], squash: 7 } });
  if (!at) return;
  await at.server.mount(at.merged, at.options);
  const owner = (name: string): string => {
    const { uid, gid } = fs.statSync(join(at.merged, name));
    return `${uid}:${gid}`;
  };
  const stored = (name: string): number => fs.statSync(join(at.path("upper"), name)).uid;
  assert.deepEqual(["root", "bin", "other"].map(owner), ["1000:7", "20001:7", "65534:7"]);
  fs.appendFileSync(join(at.merged, "bin"), "more");
  fs.chownSync(join(at.merged, "root"), 20004, 9);
  assert.deepEqual([stored("bin"), stored("root")], [2, 5]);
  assert.equal(owner("root"), "20004:7");
  execFileSync("touch", [join(at.merged, "new")], { uid: 1000, gid: 1000 });
  assert.equal(stored("new"), 0);
  assert.throws(() => fs.chownSync(join(at.merged, "new"), 5, 5), { code: "EINVAL" });
});

test("a copy within the mount, from a lower file to a new one, needs no reading and writing", async (t) => {
  await using at = scene(t, "head -c 3000000 /dev/urandom > file");
  if (!at) return;
  await at.server.mount(at.merged, at.options);
  using from = sys.open(join(at.merged, "file"), C.O_RDONLY);
  using to = new sys.OwnedFd(sys.openat(C.AT_FDCWD, join(at.merged, "copy"), C.O_RDWR | C.O_CREAT, 0o644));
  const one = { fd: from.fd, offset: 1000 };
  assert.equal(raw.copyFileRangeAt(one, { fd: to.fd, offset: 50 }, 2_000_000), 2_000_000);
  const expected = fs.readFileSync(at.path("lower/file")).subarray(1000, 2_001_000);
  assert.deepEqual(fs.readFileSync(join(at.merged, "copy")).subarray(50), expected);
  assert.deepEqual(fs.readFileSync(at.path("upper/copy")).subarray(50), expected);
});

test("times of birth are those of the layer that is seen, as with the kernel", async (t) => {
  await using at = scene(t, "mkdir dir; echo x > dir/file; echo x > other");
  if (!at) return;
  await at.server.mount(at.merged, at.options);
  fs.chmodSync(join(at.merged, "other"), 0o600);
  const pairs = [
    ["dir/file", "lower/dir/file"],
    ["other", "upper/other"],
  ] as const;
  for (const [seen, real] of pairs)
    assert.deepEqual(sys.birthTime(C.AT_FDCWD, join(at.merged, seen)), sys.birthTime(C.AT_FDCWD, at.path(real)));
});

test("reading sets access times as the mount has it, whatever the mount of the upper layer has", async (t) => {
  await using at = scene(t, "true");
  if (!at) return;
  const times = [
    { files: "noatime", directories: true, changes: [false, false] },
    { files: "relatime", directories: true, changes: [true, false] },
    { files: "strictatime", directories: true, changes: [true, true] },
  ] as const;
  for (const { files, directories, changes } of times) {
    await at.server.mount(at.merged, { ...at.options, accessTimes: { files, directories } });
    const file = join(at.merged, files);
    fs.writeFileSync(file, "x");
    fs.utimesSync(file, 1e9, 1e9);
    const found = changes.map(() => {
      const before = fs.statSync(file).atimeMs;
      // The clock of access times has ticks of some milliseconds.
      sh(`sleep 0.05; cat ${files} > /dev/null`, at.merged);
      return fs.statSync(file).atimeMs !== before;
    });
    assert.deepEqual(found, changes, files);
    await at.server.unmount();
  }
});
