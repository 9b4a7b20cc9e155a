/** The protocol server with the smallest file system there is, mounted for real by both ways into the kernel. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { findProgram } from "../../src/fs/find-program.ts";
import { bindMount, isMountPoint, mountAt, umount } from "../../src/fs/mounts.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { FuseProcess } from "../support/fuse-process.ts";
import { inUserNamespace, privateMounts } from "../support/overlay-lab.ts";

/** A directory to mount at, in a private mount namespace. */
function mountPoint(t: TestContext): string | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const path = mkdtempSync(join(tmpdir(), "lamella-fuse-"));
  t.after(() => rmdirSync(path));
  return path;
}

/** Lets every user open /dev/fuse, as most distributions do, in this mount namespace alone. */
function deviceForAll(t: TestContext): Disposable {
  const folder = mkdtempSync(join(tmpdir(), "lamella-fuse-device-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const node = join(folder, "fuse");
  sys.mknodat(C.AT_FDCWD, node, C.S_IFCHR, 10, 229);
  chmodSync(node, 0o666);
  bindMount(node, "/dev/fuse");
  return { [Symbol.dispose]: () => void umount("/dev/fuse") };
}

test("a file system in memory is mounted, read and unmounted", async (t) => {
  const target = mountPoint(t);
  if (target === undefined) return;
  {
    await using _served = await FuseProcess.start("memory-file-system-child.ts", [target], target);
    const mount = mountAt(target);
    assert.equal(mount?.type, "fuse.memory");
    const device = `/sys/class/bdi/${mount?.devMajor}:${mount?.devMinor}`;
    if (!inUserNamespace()) assert.equal(readFileSync(`${device}/read_ahead_kb`, "utf8"), "1024\n");
    assert.deepEqual(readdirSync(target).sort(), ["big", "empty", "hello"]);
    assert.match(execFileSync("ls", ["-l", target], { encoding: "utf8" }), /-r--r--r-- 1 root root +13 .* hello/);
    assert.equal(readFileSync(join(target, "hello"), "utf8"), "hello, world\n");
    assert.deepEqual(readFileSync(join(target, "big")), Buffer.alloc(5_000_000, "0123456789abcdef"));
    assert.equal(statSync(join(target, "empty")).size, 0);
    assert.throws(() => statSync(join(target, "missing")), { code: "ENOENT" });
    assert.throws(() => writeFileSync(join(target, "new"), ""), { code: "ENOSYS" });
  }
  assert.equal(isMountPoint(target), false);
});

test("without privileges it is mounted through fusermount3", async (t) => {
  if (findProgram("fusermount3") === undefined) return t.skip("fusermount3 is not installed");
  const target = mountPoint(t);
  if (target === undefined) return;
  const nobody = { uid: 65534, gid: 65534 };
  using _open = deviceForAll(t);
  chownSync(target, nobody.uid, nobody.gid);
  await using _served = await FuseProcess.start("memory-file-system-child.ts", [target], target, nobody);
  assert.match(mountAt(target)?.options.join() ?? "", /nosuid/);
  assert.throws(() => readdirSync(target), { code: "EACCES" });
  const read = execFileSync("cat", [join(target, "hello")], { ...nobody, encoding: "utf8" });
  assert.equal(read, "hello, world\n");
});

test("the example serves its files, and ends when it is told to", async (t) => {
  const target = mountPoint(t);
  if (target === undefined) return;
  const child = spawn(process.execPath, [join(import.meta.dirname, "../../examples/clock-fs.mjs"), target], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(child, "exit");
  for (let i = 0; !isMountPoint(target) && i < 200; i++) await new Promise((resolve) => setTimeout(resolve, 50));
  const read = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: "utf8" });
  assert.match(read("ls", target), /^Europe-Paris$/m);
  assert.match(read("cat", join(target, "Europe-Paris")), /^\d+\/\d+\/\d{4}, \d+:\d\d:\d\d.(AM|PM)\n$/);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);
  assert.equal(isMountPoint(target), false);
});
