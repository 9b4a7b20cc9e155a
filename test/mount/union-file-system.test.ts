/** What the union file system promises beyond equal views: open files, owners, limits of names, and what it never touches. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { inUserNamespace, privateMounts, sh } from "../support/overlay-lab.ts";
import { UnionServer } from "../support/union-server.ts";

interface Scene extends AsyncDisposable {
  readonly merged: string;
  readonly lower: string;
  readonly upper: string;
  /** How many descriptors the serving process has open. */
  readonly descriptors: () => number;
  /** Unmounts and mounts the same layers again. */
  readonly again: () => Promise<void>;
  /** Carries out shell commands in the merged directory as a user without privileges; their output. */
  readonly asUser: (script: string) => string;
}

/** A union over a lower layer that `fill` makes; undefined, and the test skipped, where mounts are not allowed. */
async function scene(t: TestContext, fill: string, options: Partial<UnionOptions> = {}): Promise<Scene | undefined> {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-union-"));
  fs.chmodSync(folder, 0o755);
  const at = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(at(name));
  sh(fill, at("lower"));
  const all: UnionOptions = {
    lowers: [at("lower")],
    upper: at("upper"),
    work: at("work"),
    prefix: "trusted.overlay.",
    redirectDir: true,
    metacopy: true,
    ...options,
  };
  const server = new UnionServer();
  await server.mount(at("merged"), all);
  return {
    merged: at("merged"),
    lower: at("lower"),
    upper: at("upper"),
    descriptors: () => fs.readdirSync(`/proc/${server.pid}/fd`).length,
    again: async () => {
      await server.unmount();
      await server.mount(at("merged"), all);
    },
    asUser: (script) =>
      execFileSync("sh", ["-euc", script], {
        cwd: at("merged"),
        uid: 1000,
        gid: 1000,
        encoding: "utf8",
        stdio: "pipe",
      }),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      execFileSync("rm", ["-rf", folder]);
    },
  };
}

test("a removed file can be used while it is open", async (t) => {
  await using at = await scene(t, "echo lower > lower; echo both > both");
  if (!at) return;
  for (const name of ["lower", "both", "new"]) {
    const path = join(at.merged, name);
    if (name !== "lower") fs.appendFileSync(path, "more");
    const fd = fs.openSync(path, "r+");
    const before = fs.readFileSync(path, "utf8");
    fs.unlinkSync(path);
    assert.equal(fs.fstatSync(fd).nlink, 0);
    assert.equal(fs.existsSync(path), false);
    fs.fchmodSync(fd, 0o600);
    fs.ftruncateSync(fd, 2);
    fs.writeSync(fd, "!", 2);
    assert.equal(fs.fstatSync(fd).size, 3);
    assert.equal(fs.fstatSync(fd).mode & 0o777, 0o600);
    const buffer = Buffer.alloc(10);
    assert.equal(buffer.toString("latin1", 0, fs.readSync(fd, buffer, 0, 10, 0)), `${before.slice(0, 2)}!`);
    fs.closeSync(fd);
  }
  assert.deepEqual(fs.readdirSync(at.merged), []);
});

test("a file opened for reading sees what is written after its copy-up", async (t) => {
  await using at = await scene(t, "printf 0123456789 > file");
  if (!at) return;
  const fd = fs.openSync(join(at.merged, "file"), "r");
  fs.writeFileSync(join(at.merged, "file"), "abc", { flag: "r+" });
  const buffer = Buffer.alloc(10);
  fs.readSync(fd, buffer, 0, 10, 0);
  fs.closeSync(fd);
  assert.equal(buffer.toString(), "abc3456789");
  assert.equal(fs.readFileSync(join(at.lower, "file"), "utf8"), "0123456789");
});

for (const place of ["the same file system", "another file system"])
  test(`inode numbers stay over copy-up, rename and another mount, with the lower layer on ${place}`, async (t) => {
    const fill = "mkdir -p dir/sub; echo x > dir/file; ln -s file dir/link; mkfifo dir/pipe";
    const other =
      place.startsWith("another") && privateMounts() === true
        ? fs.mkdtempSync(join(tmpdir(), "lamella-lower-"))
        : undefined;
    if (other !== undefined) {
      sys.mount("lamella-lower", other, "tmpfs", 0, "mode=0755");
      t.after(() => {
        umount(other);
        fs.rmdirSync(other);
      });
      sh(fill, other);
    }
    await using at = await scene(t, fill, other === undefined ? {} : { lowers: [other] });
    if (!at) return;
    // Users' attributes cannot be set on links and pipes.
    const names = ["dir", "dir/sub", "dir/file", ...(inUserNamespace() ? [] : ["dir/link", "dir/pipe"])];
    const numbers = (): number[] => names.map((name) => fs.lstatSync(join(at.merged, name)).ino);
    const before = numbers();
    sh("chmod 700 dir/sub dir/pipe; echo y >> dir/file; touch dir/new; touch -h dir/link", at.merged);
    assert.deepEqual(numbers(), before);
    sh("mv dir moved; mv moved dir", at.merged);
    assert.deepEqual(numbers(), before);
    await at.again();
    assert.deepEqual(numbers(), before);
  });

test("names up to 255 bytes, and paths beyond PATH_MAX", async (t) => {
  await using at = await scene(t, "true");
  if (!at) return;
  const longest = "n".repeat(255);
  fs.writeFileSync(join(at.merged, longest), "");
  assert.deepEqual(fs.readdirSync(at.merged), [longest]);
  for (const call of [fs.statSync, fs.unlinkSync, fs.mkdirSync])
    assert.throws(() => call(join(at.merged, `${longest}n`)), { code: "ENAMETOOLONG" });
  let fd = sys.open(at.merged, C.O_PATH | C.O_DIRECTORY);
  const deep = "d".repeat(200);
  for (let i = 0; i < 30; i++) {
    using above = fd;
    sys.mkdirat(above.fd, deep, 0o755);
    fd = new sys.OwnedFd(sys.openat(above.fd, deep, C.O_RDONLY | C.O_DIRECTORY));
  }
  sys.symlinkat("target", fd.fd, "link");
  assert.deepEqual(
    sys.readdir(fd.fd).map(({ name }) => name),
    ["link"],
  );
  assert.equal(sys.readlinkat(fd.fd, "link"), "target");
  fd[Symbol.dispose]();
  await at.again();
  const depth = execFileSync("find", [at.merged, "-name", "link", "-printf", "%d"], { encoding: "utf8" });
  assert.equal(depth, "31");
});

test("new objects belong to their maker, by umask, set-group-id and default ACL", async (t) => {
  await using at = await scene(t, "mkdir -m 777 open gone; mkdir shared; chgrp 77 shared; chmod 2777 shared");
  if (!at) return;
  sh("rm -r gone; mkdir -m 777 gone; setfacl -d -m u:12:rwx open", at.merged);
  at.asUser("umask 027; mkdir open/d gone/d shared/d; touch open/f gone/f shared/f; ln -s x open/l; mkfifo open/p");
  const shape = (name: string): string => execFileSync("stat", ["-c", "%A %u:%g", join(at.merged, name)]).toString();
  assert.equal(shape("gone/d"), "drwxr-x--- 1000:1000\n");
  assert.equal(shape("gone/f"), "-rw-r----- 1000:1000\n");
  assert.equal(shape("shared/d"), "drwxr-s--- 1000:77\n");
  assert.equal(shape("shared/f"), "-rw-r----- 1000:77\n");
  assert.equal(shape("open/d"), "drwxrwxrwx 1000:1000\n");
  assert.equal(shape("open/f"), "-rw-rw-rw- 1000:1000\n");
  assert.equal(shape("open/l"), "lrwxrwxrwx 1000:1000\n");
  assert.match(execFileSync("getfacl", ["-np", join(at.merged, "open/f")], { encoding: "utf8" }), /user:12:rwx/);
  assert.throws(() => at.asUser("touch new"), /Permission denied/);
});

test("over a whiteout the default ACL counts too", async (t) => {
  await using at = await scene(t, "mkdir -m 777 dir; echo x > dir/file; mkdir dir/sub");
  if (!at) return;
  sh("setfacl -d -m u:12:rwx dir; rm -r dir/file dir/sub", at.merged);
  at.asUser("echo new > dir/file; mkdir dir/sub");
  for (const name of ["dir/file", "dir/sub"])
    assert.match(execFileSync("getfacl", ["-np", join(at.merged, name)], { encoding: "utf8" }), /user:12:rwx/);
  assert.equal(fs.statSync(join(at.merged, "dir/file")).uid, 1000);
  assert.deepEqual(fs.readdirSync(join(at.merged, "dir/sub")), []);
});

test("set-id bits go when others write, and stay when root does", async (t) => {
  await using at = await scene(t, "for f in a b c d; do echo x > $f; chown 1000:1000 $f; chmod 6777 $f; done");
  if (!at) return;
  const mode = (name: string): string => (fs.statSync(join(at.merged, name)).mode & 0o7777).toString(8);
  at.asUser("echo y >> a; : > b");
  sh("echo y >> c; chown 1000:1001 d", at.merged);
  assert.deepEqual(["a", "b", "c", "d"].map(mode), ["777", "777", "6777", "777"]);
});

test("a file that gets set-id bits while it is open loses them by the next write", async (t) => {
  await using at = await scene(t, "mkdir -m 777 dir");
  if (!at) return;
  const script = "cd dir; echo x > own; exec 3>>own; chmod 6755 own; stat -c %a own; echo y >&3; stat -c %a own";
  assert.equal(at.asUser(script), "6755\n755\n");
});

test("the set-id bit of a group goes when one who is not in it writes, though the group may not execute", async (t) => {
  await using at = await scene(t, "mkdir -m 777 dir");
  if (!at) return;
  const script = `cd dir; for group in 1000 0; do
    touch f$group; chgrp $group f$group; chmod 2666 f$group; done`;
  sh(script, at.merged);
  const write = "for f in dir/f*; do echo x >> $f; stat -c %a $f; fallocate -l 100 $f; stat -c %a $f; done";
  assert.equal(at.asUser(write), "666\n666\n2666\n2666\n");
});

test("a file without a name keeps the set-id bits it is made with", async (t) => {
  await using at = await scene(t, "true");
  if (!at) return;
  const fd = fs.openSync(at.merged, C.O_TMPFILE | C.O_RDWR, 0o6711);
  try {
    assert.equal(fs.fstatSync(fd).mode & 0o7777, 0o6711);
  } finally {
    fs.closeSync(fd);
  }
});

test("a mapped file and a written one are the same", async (t) => {
  await using at = await scene(t, "head -c 100000 /dev/zero > lower");
  if (!at) return;
  const script = `
import mmap, os, sys
for name in ["lower", "new"]:
    with open(name, "r+b" if name == "lower" else "w+b") as file:
        if name == "new": file.truncate(100000)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[70000:70004] = b"mmap"
            memory.flush()
            os.pwrite(file.fileno(), b"written", 70010)
            assert memory[70010:70017] == b"written", name
    with open(name, "rb") as file:
        file.seek(70000)
        assert file.read(17) == b"mmap" + bytes(6) + b"written", name
`;
  execFileSync("python3", ["-c", script], { cwd: at.merged });
  assert.equal(fs.readFileSync(join(at.upper, "lower")).toString("latin1", 70000, 70004), "mmap");
});

test("writing to a mapped file changes its times, though the kernel does not ask for it", async (t) => {
  await using at = await scene(t, "head -c 100000 /dev/zero > lower");
  if (!at) return;
  const script = `
import mmap, os
for name in ["lower", "new"]:
    with open(name, "r+b" if name == "lower" else "w+b") as file:
        file.truncate(100000)
        os.utime(name, (1000000000, 1000000000))
        assert os.stat(name).st_mtime == 1000000000, name
        with mmap.mmap(file.fileno(), 0) as memory: memory[0:4] = b"mmap"
        assert os.stat(name).st_mtime > 1000000000, name
    with open(name, "r+b") as file:
        os.utime(name, (1000000000, 1000000000))
        with mmap.mmap(file.fileno(), 0) as memory: memory[0:4] = b"more"
    assert os.stat(name).st_mtime > 1000000000, name
`;
  execFileSync("python3", ["-c", script], { cwd: at.merged });
});

test("nothing outside is touched through a symbolic link", async (t) => {
  await using at = await scene(t, "true");
  if (!at) return;
  const outside = fs.mkdtempSync(join(tmpdir(), "lamella-outside-"));
  t.after(() => fs.rmSync(outside, { recursive: true }));
  fs.chmodSync(outside, 0o711);
  const link = join(at.merged, "link");
  fs.symlinkSync(outside, link);
  sys.lsetxattrat(C.AT_FDCWD, link, "trusted.mark", Buffer.from("x"));
  sys.lchownat(C.AT_FDCWD, link, 5, 6);
  fs.lutimesSync(link, 1, 2);
  const stat = fs.lstatSync(link);
  assert.deepEqual([stat.uid, stat.gid, stat.mtimeMs], [5, 6, 2000]);
  assert.deepEqual(sys.llistxattrat(C.AT_FDCWD, link), ["trusted.mark"]);
  assert.deepEqual(sys.llistxattrat(C.AT_FDCWD, outside), []);
  assert.equal(fs.statSync(outside).uid, 0);
  assert.notEqual(fs.statSync(outside).mtimeMs, 2000);
});

test("overlay's own attributes and whiteouts cannot be forged", async (t) => {
  await using at = await scene(t, "mkdir dir; echo x > dir/file");
  if (!at) return;
  const dir = join(at.merged, "dir");
  sys.lsetxattrat(C.AT_FDCWD, dir, "trusted.overlay.opaque", Buffer.from("y"));
  assert.deepEqual(sys.llistxattrat(C.AT_FDCWD, dir), ["trusted.overlay.opaque"]);
  assert.equal(sys.lgetxattrat(C.AT_FDCWD, join(at.upper, "dir"), "trusted.overlay.overlay.opaque")?.toString(), "y");
  await at.again();
  assert.deepEqual(fs.readdirSync(dir), ["file"]);
  assert.equal(raw.mknodat(C.AT_FDCWD, join(dir, "device"), C.S_IFCHR, 0, 0), -1);
});

test("a copy keeps holes, and chown copies no data", async (t) => {
  await using at = await scene(
    t,
    "truncate -s 8M sparse; echo x | dd of=sparse seek=8 bs=512K conv=notrunc; cp sparse other",
  );
  if (!at) return;
  fs.appendFileSync(join(at.merged, "sparse"), "end");
  assert.ok(fs.statSync(join(at.upper, "sparse")).blocks * 512 < 2 << 20);
  fs.chownSync(join(at.merged, "other"), 5, 5);
  assert.ok(fs.statSync(join(at.upper, "other")).blocks <= 8, "more than a block of attributes");
  assert.deepEqual(fs.readFileSync(join(at.merged, "other")), fs.readFileSync(join(at.lower, "other")));
  using file = sys.open(join(at.merged, "sparse"), C.O_RDWR);
  assert.equal(sys.lseek(file.fd, 0, C.SEEK_DATA), 4 << 20);
  assert.equal(raw.fallocate(file.fd, 0, 0, 16 << 20), 0);
  assert.equal(sys.fstat(file.fd).size, 16 << 20);
});

test("files without a name, and what is linked from them", async (t) => {
  await using at = await scene(t, "mkdir dir");
  if (!at) return;
  using file = sys.open(join(at.merged, "dir"), C.O_TMPFILE | C.O_RDWR, 0o640);
  sys.writeAll(file.fd, Buffer.from("text"));
  assert.equal(sys.fstat(file.fd).nlink, 0);
  sys.linkat(C.AT_FDCWD, `/proc/self/fd/${file.fd}`, C.AT_FDCWD, join(at.merged, "dir/name"), C.AT_SYMLINK_FOLLOW);
  assert.equal(fs.readFileSync(join(at.merged, "dir/name"), "utf8"), "text");
  assert.equal(sys.fstat(file.fd).nlink, 1);
});

test("many files pass without being kept open", async (t) => {
  const fill = "for d in $(seq 700); do mkdir $d; echo $d > $d/file; done";
  await using at = await scene(t, fill, { volatile: true });
  if (!at) return;
  sh("for d in $(seq 700); do echo more >> $d/file; done; find . | wc -l; cat */file", at.merged);
  assert.equal(execFileSync("sh", ["-c", "cat */file | wc -l"], { cwd: at.merged, encoding: "utf8" }).trim(), "1400");
  // Most systems allow a process 1,024.
  assert.ok(at.descriptors() < 700, `${at.descriptors()} descriptors`);
  sh("rm -r *", at.merged);
  assert.deepEqual(fs.readdirSync(at.merged), []);
});

test("reading leaves access times below as they are", async (t) => {
  await using at = await scene(t, "mkdir dir; echo x > dir/file; touch -d @1000000000 dir/file dir");
  if (!at) return;
  assert.equal(fs.readFileSync(join(at.merged, "dir/file"), "utf8"), "x\n");
  assert.deepEqual(fs.readdirSync(join(at.merged, "dir")), ["file"]);
  for (const name of ["dir", "dir/file"]) assert.equal(fs.statSync(join(at.lower, name)).atimeMs, 1e12);
});

test("without an upper layer all is read-only", async (t) => {
  await using at = await scene(t, "mkdir dir; echo x > dir/file", { upper: undefined, work: undefined });
  if (!at) return;
  assert.equal(fs.readFileSync(join(at.merged, "dir/file"), "utf8"), "x\n");
  assert.deepEqual(fs.readdirSync(at.merged), ["dir"]);
  assert.throws(() => fs.writeFileSync(join(at.merged, "dir/file"), "y"), { code: "EROFS" });
  assert.throws(() => fs.mkdirSync(join(at.merged, "new")), { code: "EROFS" });
  assert.throws(() => fs.renameSync(join(at.merged, "dir"), join(at.merged, "new")), { code: "EROFS" });
});
