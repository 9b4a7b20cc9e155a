import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { hasCode } from "../errors/syscall-error.ts";
import { AT_FDCWD, S_IFCHR, S_IFIFO, S_IFSOCK } from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import * as sys from "../sys/syscalls.ts";
import { listTree } from "../testing/tree-listing.ts";
import { FileCopier } from "./copy-file.ts";
import { copyTree } from "./copy-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { TempDir } from "./temp-dir.ts";
import { copyTreeInBackground } from "./tree-jobs.ts";

function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "lamella-copy-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function furnish(root: string): void {
  mkdirSync(join(root, "dir/deep/er"), { recursive: true });
  writeFileSync(join(root, "dir/file"), "content");
  linkSync(join(root, "dir/file"), join(root, "link1"));
  linkSync(join(root, "dir/file"), join(root, "dir/deep/er/link2"));
  symlinkSync("x".repeat(3000), join(root, "long-symlink"));
  writeFileSync(join(root, "setuid"), "s");
  chmodSync(join(root, "setuid"), 0o4711);
  writeFileSync(join(root, "unreadable"), "u");
  chmodSync(join(root, "unreadable"), 0o000);
  mkdirSync(join(root, "closed/inside"), { recursive: true });
  sys.mknodat(AT_FDCWD, join(root, "fifo"), S_IFIFO | 0o644);
  sys.mknodat(AT_FDCWD, join(root, "socket"), S_IFSOCK | 0o600);
  sys.lsetxattrat(AT_FDCWD, join(root, "dir"), "user.x", Buffer.from([0, 1, 255]));
  writeFileSync(Buffer.from(join(root, "b\xe9\xff"), "latin1"), "bytes");
  writeFileSync(join(root, "big"), Buffer.alloc(3_000_001, "abc"));
  const times = { atimeSec: 100, atimeNsec: 1, mtimeSec: -5, mtimeNsec: 999_999_999 };
  for (const name of ["dir", "dir/file", "long-symlink", "fifo", "closed"])
    sys.utimensat(AT_FDCWD, join(root, name), times);
  chmodSync(join(root, "closed"), 0o500);
}

test("a copy cannot be told from the original", async (t) => {
  const at = scratch(t);
  const source = join(at, "source");
  mkdirSync(source);
  furnish(source);
  if (process.getuid?.() === 0) {
    raw.mknodat(AT_FDCWD, join(source, "device"), S_IFCHR | 0o666, 1, 3);
    raw.fchownat(AT_FDCWD, join(source, "long-symlink"), 5, 6, 0x100);
    sys.lsetxattrat(AT_FDCWD, join(source, "setuid"), "security.capability", CAP_NET_RAW);
  }
  const copied = await copyTreeInBackground(source, join(at, "copy"));
  assert.deepEqual(listTree(join(at, "copy")), listTree(source));
  assert.equal(
    copied.entries,
    Number(execFileSync("du", ["-a", "-l", source], { encoding: "latin1" }).split("\n").length - 1),
  );
  assert.equal(statSync(join(at, "copy/dir/file")).nlink, 3);
});

const CAP_NET_RAW = Buffer.from("0100000200200000000000000000000000000000", "hex");

test("ACLs are copied, a default ACL is not applied to what is copied", (t) => {
  const at = scratch(t);
  const source = join(at, "source");
  mkdirSync(join(source, "dir"), { recursive: true });
  writeFileSync(join(source, "dir/before"), "");
  try {
    execFileSync("setfacl", ["-m", "u:7:rw,d:u:8:rwx", join(source, "dir")], { stdio: "pipe" });
  } catch (error) {
    t.skip(`setfacl: ${String(error).split("\n")[0]}`);
    return;
  }
  writeFileSync(join(source, "dir/after"), "");
  copyTree(source, join(at, "copy"));
  assert.deepEqual(listTree(join(at, "copy")), listTree(source));
});

test("holes stay holes", (t) => {
  const at = scratch(t);
  const source = join(at, "source");
  mkdirSync(source);
  const file = openSync(join(source, "sparse"), "w");
  writeSync(file, "middle", 40 << 20);
  writeSync(file, "late", 70 << 20);
  closeSync(file);
  truncateSync(join(source, "sparse"), 100 << 20);
  writeFileSync(join(source, "hole-only"), "");
  truncateSync(join(source, "hole-only"), 50 << 20);
  const { copiedBytes } = copyTree(source, join(at, "copy"));
  for (const name of ["sparse", "hole-only"]) {
    const [a, b] = [statSync(join(source, name)), statSync(join(at, "copy", name))];
    assert.equal(b.size, a.size);
    assert.ok(b.blocks <= a.blocks + 64, `${b.blocks} blocks for ${a.blocks}`);
  }
  assert.ok(copiedBytes < 1 << 20);
  assert.ok(readFileSync(join(at, "copy/sparse")).equals(readFileSync(join(source, "sparse"))));
});

test("file content comes over by every way the kernel may leave", (t) => {
  const at = scratch(t);
  const bytes = Buffer.alloc(700_001, "0123456789");
  writeFileSync(join(at, "from"), bytes);
  using from = sys.open(join(at, "from"), 0);
  for (const size of [0, 1, 700_001]) {
    sys.lseek(from.fd, 0, 0);
    using to = sys.open(join(at, `to${size}`), 0o102);
    new FileCopier().copy(from.fd, to.fd, size, Math.ceil(size / 512));
    assert.ok(size === 0 || readFileSync(join(at, `to${size}`)).equals(bytes.subarray(0, size)));
  }
  // From /proc neither reflink nor copy_file_range works, and the size is not known.
  using proc = sys.open("/proc/self/status", 0);
  using to = sys.open(join(at, "status"), 0o102);
  new FileCopier().copy(proc.fd, to.fd, 20, 1);
  assert.equal(readFileSync(join(at, "status")).length, 20);
});

test("a copy in a worker thread gives the same, and can be cancelled", async (t) => {
  const at = scratch(t);
  const source = join(at, "source");
  mkdirSync(source);
  furnish(source);
  await copyTreeInBackground(source, join(at, "copy"));
  assert.deepEqual(listTree(join(at, "copy")), listTree(source));
  const canceled = copyTreeInBackground(source, join(at, "other"), { signal: AbortSignal.abort() });
  await assert.rejects(canceled, (error) => hasCode(error, "ABORTED"));
});

test("an existing object in the way is an error, nothing is overwritten", (t) => {
  const at = scratch(t);
  mkdirSync(join(at, "source"));
  writeFileSync(join(at, "source/a"), "new");
  mkdirSync(join(at, "target"));
  writeFileSync(join(at, "target/a"), "old");
  assert.throws(
    () => copyTree(join(at, "source"), join(at, "target")),
    (error) => hasCode(error, "EEXIST"),
  );
  assert.equal(readFileSync(join(at, "target/a"), "utf8"), "old");
});

test("removeTree removes all, a part when told so, and follows no link", (t) => {
  const at = scratch(t);
  {
    using directory = new TempDir(at, "temp-");
    furnish(directory.path);
    mkdirSync(join(at, "outside"));
    writeFileSync(join(at, "outside/file"), "kept");
    symlinkSync(join(at, "outside"), join(directory.path, "dir/out"));
    assert.equal(removeTree(directory.path, { maxEntries: 4 }), false);
    assert.notEqual(sys.statIfExists(AT_FDCWD, directory.path), undefined);
  }
  assert.equal(readFileSync(join(at, "outside/file"), "utf8"), "kept");
  assert.equal(removeTree(join(at, "none")), true);
  writeFileSync(join(at, "file"), "");
  assert.equal(removeTree(join(at, "file")), true);
  // Deeper than PATH_MAX, and than what may be open at once.
  let deep = sys.open(at, 0).release();
  for (let i = 0; i < 3000; i++) {
    sys.mkdirat(deep, "0123456789", 0o700);
    const next = sys.openat(deep, "0123456789", 0);
    sys.close(deep);
    deep = next;
  }
  sys.close(deep);
  assert.equal(removeTree(join(at, "0123456789")), true);
});
