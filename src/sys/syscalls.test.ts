import assert from "node:assert/strict";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SyscallError } from "../errors/syscall-error.ts";
import * as C from "./constants.ts";
import * as raw from "./raw.ts";
import * as sys from "./syscalls.ts";

let directory = "";
let at: sys.OwnedFd;
const root = process.getuid?.() === 0;

before(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "lamella-sys-"));
  at = sys.open(directory, C.O_RDONLY | C.O_DIRECTORY);
});
after(() => {
  at[Symbol.dispose]();
  fs.rmSync(directory, { recursive: true });
});

test("statx agrees with Node's lstat", () => {
  fs.writeFileSync(join(directory, "file"), "x".repeat(70000));
  fs.symlinkSync("nowhere", join(directory, "link"));
  fs.utimesSync(join(directory, "file"), 12, 1234567890.5);
  for (const name of ["file", "link"]) {
    const own = sys.statx(at.fd, name);
    const node = fs.lstatSync(join(directory, name), { bigint: true });
    assert.equal(BigInt(own.mode), node.mode);
    assert.equal(BigInt(own.size), node.size);
    assert.equal(BigInt(own.blocks), node.blocks);
    assert.equal((BigInt(own.inoHigh) << 32n) | BigInt(own.inoLow), node.ino);
    assert.equal(BigInt(own.mtimeSec) * 1000000000n + BigInt(own.mtimeNsec), node.mtimeNs);
    assert.equal(BigInt(own.ctimeSec) * 1000000000n + BigInt(own.ctimeNsec), node.ctimeNs);
    assert.equal(BigInt(own.nlink), node.nlink);
  }
});

test("times before 1970 and after 2038 keep their nanoseconds", () => {
  fs.writeFileSync(join(directory, "times"), "");
  sys.utimensat(at.fd, "times", { atimeSec: -1, atimeNsec: 999999999, mtimeSec: 2 ** 33, mtimeNsec: 1 });
  const { atimeSec, atimeNsec, mtimeSec, mtimeNsec } = sys.statx(at.fd, "times");
  assert.deepEqual([atimeSec, atimeNsec, mtimeSec, mtimeNsec], [-1, 999999999, 2 ** 33, 1]);
});

test("getdents64 lists every name, bytes kept, and its types", () => {
  fs.mkdirSync(join(directory, "many"));
  const odd = Buffer.from([0x61, 0xff, 0x0a, 0x62]);
  fs.writeFileSync(Buffer.concat([Buffer.from(`${directory}/many/`), odd]), "");
  for (let i = 0; i < 5000; i++) fs.writeFileSync(join(directory, "many", `n${i}`), "");
  fs.mkdirSync(join(directory, "many", "dir"));
  using many = new sys.OwnedFd(sys.openat(at.fd, "many", C.O_RDONLY | C.O_DIRECTORY));
  const entries = sys.readdir(many.fd);
  assert.equal(entries.length, 5002);
  assert.ok(entries.some((e) => e.name === odd.toString("latin1") && e.type === C.DT_REG));
  assert.equal(entries.find((e) => e.name === "dir")?.type, C.DT_DIR);
});

test("a failing call names itself, the errno and the path", () => {
  assert.throws(
    () => sys.openat(at.fd, "missing", C.O_RDONLY),
    (error) =>
      error instanceof SyscallError &&
      error.code === "ENOENT" &&
      error.kind === "not_found" &&
      error.syscall === "openat" &&
      error.message === "openat missing: ENOENT",
  );
  assert.equal(sys.statIfExists(at.fd, "missing"), undefined);
  assert.equal(sys.unlinkIfExists(at.fd, "missing"), false);
});

test("names with NUL or beyond the kernel's limit never reach it cut short", () => {
  assert.equal(raw.openat(at.fd, "file\0.txt", C.O_RDONLY), -22);
  assert.equal(raw.openat(at.fd, "x".repeat(5000), C.O_RDONLY), -36);
  assert.equal(raw.openat(at.fd, "x".repeat(100000), C.O_RDONLY), -36);
  assert.equal(raw.mount("a", directory, "overlay", 0, "x".repeat(4096)), -36);
});

test("openat2 keeps a path beneath its directory", (t) => {
  if (!raw.haveOpenat2) return t.skip("no openat2");
  fs.symlinkSync("/etc", join(directory, "out"));
  assert.equal(raw.openat2(at.fd, "out/passwd", C.O_RDONLY, 0, C.RESOLVE_BENEATH), -18);
  assert.equal(raw.openat2(at.fd, "../x", C.O_RDONLY, 0, C.RESOLVE_BENEATH), -18);
  assert.equal(raw.openat2(at.fd, "out/passwd", C.O_RDONLY, 0, C.RESOLVE_IN_ROOT), -2);
});

for (const relative of [true, false]) {
  test(`extended attributes, ${relative ? "relative to a directory" : "through /proc as before Linux 6.13"}`, (t) => {
    if (relative && !raw.usesXattrAt()) return t.skip("the kernel has no getxattrat");
    const previous = raw.usesXattrAt(relative);
    try {
      fs.writeFileSync(join(directory, "attributed"), "");
      const value = Buffer.from([0, 255, 10, 0]);
      sys.lsetxattrat(at.fd, "attributed", "user.binary", value);
      sys.lsetxattrat(at.fd, "attributed", "user.empty", Buffer.alloc(0));
      assert.deepEqual(sys.lgetxattrat(at.fd, "attributed", "user.binary"), value);
      assert.deepEqual(sys.lgetxattrat(at.fd, "attributed", "user.empty"), Buffer.alloc(0));
      assert.deepEqual([...sys.llistxattrat(at.fd, "attributed")].filter((n) => n.startsWith("user.")).sort(), [
        "user.binary",
        "user.empty",
      ]);
      assert.equal(sys.lgetxattrat(at.fd, "attributed", "user.none"), undefined);
      assert.equal(sys.lremovexattrat(at.fd, "attributed", "user.empty"), true);
      assert.equal(sys.lremovexattrat(at.fd, "attributed", "user.empty"), false);
      if (root) {
        fs.symlinkSync("attributed", join(directory, `to-attributed-${relative}`));
        sys.lsetxattrat(at.fd, `to-attributed-${relative}`, "trusted.own", Buffer.from("link"));
        assert.equal(sys.lgetxattrat(at.fd, "attributed", "trusted.own"), undefined);
      }
    } finally {
      raw.usesXattrAt(previous);
    }
  });
}

test("descriptors' attributes", () => {
  using file = new sys.OwnedFd(sys.openat(at.fd, "by-fd", C.O_RDWR | C.O_CREAT, 0o600));
  sys.fsetxattr(file.fd, "user.a", Buffer.from("b"));
  assert.equal(sys.fgetxattr(file.fd, "user.a")?.toString(), "b");
  assert.equal(raw.fremovexattr(file.fd, "user.a"), 0);
  assert.equal(sys.fgetxattr(file.fd, "user.a"), undefined);
});

test("chmod and chown act on the name itself", (t) => {
  fs.writeFileSync(join(directory, "owned"), "", { mode: 0o644 });
  fs.symlinkSync("owned", join(directory, "to-owned"));
  sys.lchmodat(at.fd, "owned", 0o4750);
  assert.equal(sys.statx(at.fd, "owned").mode & 0o7777, 0o4750);
  assert.throws(() => sys.lchmodat(at.fd, "to-owned", 0o700), { code: "ENOTSUP" });
  if (!root) return t.skip("changing owners needs root");
  sys.lchownat(at.fd, "to-owned", 4000000000, 7);
  assert.equal(sys.statx(at.fd, "to-owned").uid, 4000000000);
  assert.equal(sys.statx(at.fd, "owned").uid, 0);
});

test("device numbers of any size", (t) => {
  const r = raw.mknodat(at.fd, "device", C.S_IFBLK | 0o600, 4095, 1048575);
  if (r === -1) return t.skip("making devices needs root");
  assert.equal(r, 0);
  const { rdevMajor, rdevMinor } = sys.statx(at.fd, "device");
  assert.deepEqual([rdevMajor, rdevMinor], [4095, 1048575]);
});

test("links, renames and their flags", () => {
  fs.writeFileSync(join(directory, "one"), "1");
  sys.linkat(at.fd, "one", at.fd, "two");
  assert.ok(sys.sameInode(sys.statx(at.fd, "one"), sys.statx(at.fd, "two")));
  assert.equal(sys.inodeKey(sys.statx(at.fd, "one")), sys.inodeKey(sys.statx(at.fd, "two")));
  assert.throws(() => sys.renameat2(at.fd, "one", at.fd, "file", C.RENAME_NOREPLACE), { code: "EEXIST" });
  sys.symlinkat("tar\xffget", at.fd, "byte-link");
  assert.equal(sys.readlinkat(at.fd, "byte-link"), "tar\xffget");
});

test("sparse files: the hole is found, the clone is refused or equal", () => {
  using file = new sys.OwnedFd(sys.openat(at.fd, "sparse", C.O_RDWR | C.O_CREAT, 0o600));
  sys.ftruncate(file.fd, 2 ** 33);
  raw.pwrite64(file.fd, Buffer.from("end"), 3, 2 ** 33 - 3);
  const data = raw.lseek(file.fd, 0, C.SEEK_DATA);
  assert.ok(data > 2 ** 32 && data <= 2 ** 33 - 3, String(data));
  using clone = new sys.OwnedFd(sys.openat(at.fd, "clone", C.O_RDWR | C.O_CREAT, 0o600));
  const r = raw.ficlone(clone.fd, file.fd);
  assert.ok([0, -95, -18, -22].includes(r), String(r));
  if (r === 0) assert.equal(sys.fstat(clone.fd).size, 2 ** 33);
});

test("copy_file_range, pread and writeAll", () => {
  using from = new sys.OwnedFd(sys.openat(at.fd, "from", C.O_RDWR | C.O_CREAT, 0o600));
  using to = new sys.OwnedFd(sys.openat(at.fd, "to", C.O_RDWR | C.O_CREAT, 0o600));
  sys.writeAll(from.fd, Buffer.from("0123456789"));
  sys.lseek(from.fd, 2, C.SEEK_SET);
  assert.equal(raw.copy_file_range(from.fd, to.fd, 5), 5);
  const into = Buffer.alloc(8);
  assert.equal(sys.pread64(to.fd, into, 8, 1), 4);
  assert.equal(into.toString("latin1", 0, 4), "3456");
});

test("locks exclude another open description", () => {
  using first = new sys.OwnedFd(sys.openat(at.fd, "lock", C.O_RDWR | C.O_CREAT, 0o600));
  using second = new sys.OwnedFd(sys.openat(at.fd, "lock", C.O_RDWR));
  assert.equal(sys.flock(first.fd, C.LOCK_EX), true);
  assert.equal(sys.flock(second.fd, C.LOCK_EX | C.LOCK_NB), false);
  sys.flock(first.fd, C.LOCK_UN);
  assert.equal(sys.flock(second.fd, C.LOCK_EX | C.LOCK_NB), true);
  assert.equal(raw.ofdLock(first.fd, C.F_OFD_SETLK, C.F_WRLCK, 0, 10), 0);
  assert.equal(raw.ofdLock(second.fd, C.F_OFD_SETLK, C.F_WRLCK, 5, 1), -11);
  assert.equal(raw.ofdLock(second.fd, C.F_OFD_SETLK, C.F_WRLCK, 10, 1), 0);
});

test("a closed OwnedFd cannot be used and closes once", () => {
  const owned = new sys.OwnedFd(sys.openat(at.fd, "file", C.O_RDONLY));
  owned[Symbol.dispose]();
  owned[Symbol.dispose]();
  assert.throws(() => owned.fd, { code: "EBADF" });
});

test("statfs and capabilities answer", () => {
  const { type, blockSize, nameMax } = sys.statfs(directory);
  assert.ok(type > 0 && blockSize >= 512 && nameMax >= 143);
  const sets = raw.capget();
  assert.ok(typeof sets !== "number");
  assert.ok((sets.effective & ~sets.permitted) === 0n);
});
