/** The program lamella-overlay: its arguments, that it stays behind, and how it ends. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { isMountPoint, mountAt, umount } from "../../src/fs/mounts.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { inUserNamespace, privateMounts } from "../support/overlay-lab.ts";
import { gone } from "../support/processes.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const program = join(import.meta.dirname, "../../src/cli/lamella-overlay.ts");

interface Folders {
  readonly path: (name: string) => string;
  /** The three directories of a union over `lower`. */
  readonly options: string;
}

function folders(t: TestContext): Folders | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-overlay-"));
  const path = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(path(name));
  fs.mkdirSync(path("lower/dir"));
  fs.writeFileSync(path("lower/dir/file"), "text");
  t.after(() => {
    umount(path("merged"));
    fs.rmSync(folder, { recursive: true });
  });
  return { path, options: `lowerdir=${path("lower")},upperdir=${path("upper")},workdir=${path("work")}` };
}

function run(...args: readonly string[]): { readonly status: number | null; readonly stderr: string } {
  return spawnSync(process.execPath, [...process.execArgv, program, ...args], { encoding: "utf8" });
}

/** The process that serves a mount: its options name the directories. */
function serverOf(target: string): number {
  return Number(
    execFileSync("pgrep", ["-f", `lamella-overlay.*--tells .* ${target}( |$)`], { encoding: "utf8" }).trim(),
  );
}

test("it mounts, serves after it has returned, and ends with the mount", async (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  const { status, stderr } = run("source", target, "-o", `${at.options},nosuid,noexec,nodiratime`);
  assert.equal(status, 0, stderr);
  for (const flag of ["nosuid", "noexec", "nodiratime"]) assert.ok(mountAt(target)?.options.includes(flag), flag);
  assert.ok(inUserNamespace() || !mountAt(target)?.options.includes("nodev"));
  assert.equal(mountAt(target)?.type, "fuse.lamella-overlay");
  assert.equal(mountAt(target)?.source, "source");
  fs.appendFileSync(join(target, "dir/file"), " and more");
  fs.rmSync(join(target, "dir"), { recursive: true });
  fs.mkdirSync(join(target, "dir"));
  assert.deepEqual(fs.readdirSync(join(target, "dir")), []);
  const pid = serverOf(target);
  umount(target);
  await gone(pid);
  const marks = execFileSync("getfattr", ["-d", "-m", "-", "--absolute-names", at.path("upper/dir")]).toString();
  assert.match(marks, inUserNamespace() ? /^user.overlay.opaque="y"/m : /^trusted.overlay.opaque="y"/m);
});

test("`lamella mount -t fuse` mounts the same", async (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  const main = join(import.meta.dirname, "../../src/cli/main.ts");
  const mount = (options: string) =>
    spawnSync(process.execPath, [...process.execArgv, main, "mount", "-t", "fuse", "-o", options, target], {
      encoding: "utf8",
    });
  const failed = mount("lowerdir=/nonexistent");
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /nonexistent: ENOENT/);
  const { status, stderr } = mount(at.options);
  assert.equal(status, 0, stderr);
  assert.equal(mountAt(target)?.type, "fuse.lamella-overlay");
  assert.equal(fs.readFileSync(join(target, "dir/file"), "utf8"), "text");
  const write = () => fs.writeFileSync(join(target, "dir/file"), "other");
  assert.equal(run("-o", `${at.options},remount,ro`, target).status, 0);
  assert.throws(write, { code: "EROFS" });
  assert.equal(run("-o", "remount,rw,noexec", target).status, 0);
  write();
  assert.ok(mountAt(target)?.options.includes("noexec"));
});

test("layers that are compressed tars are decompressed first, those that cannot be are refused", async (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  fs.mkdirSync(at.path("tree"));
  fs.writeFileSync(at.path("tree/big"), Buffer.alloc(3 << 20, "content"));
  fs.writeFileSync(at.path("tree/.wh.dir"), "");
  const tar = (...words: readonly string[]) => execFileSync("tar", ["-C", ...words]);
  tar(at.path("tree"), "-czf", at.path("tree.tar.gz"), ".");
  tar(at.path("lower"), "--zstd", "-cf", at.path("lower.tar.zst"), "--transform=s/file/other/", ".");
  tar(at.path("lower"), "-cJf", at.path("lower.tar.xz"), ".");
  fs.writeFileSync(at.path("cut.tar.gz"), fs.readFileSync(at.path("tree.tar.gz")).subarray(0, 2000));
  for (const upper of [`,upperdir=${at.path("upper")},workdir=${at.path("work")}`, ""]) {
    const layers = ["tree.tar.gz", "lower", "lower.tar.zst"].map((name) => at.path(name)).join(":");
    const { status, stderr } = run("-o", `lowerdir=${layers}${upper}`, target);
    assert.equal(status, 0, stderr);
    assert.deepEqual(fs.readdirSync(target), ["big"]);
    execFileSync("cmp", [at.path("tree/big"), join(target, "big")]);
    if (upper !== "") fs.appendFileSync(join(target, "big"), "more");
    umount(target);
  }
  assert.equal(fs.statSync(at.path("upper/big")).size, (3 << 20) + 4);
  assert.deepEqual(fs.readdirSync(at.path("work")), ["work"]);
  const below = run("-o", `lowerdir=${at.path("lower.tar.zst")}`, target);
  assert.equal(below.status, 0, below.stderr);
  assert.equal(fs.readFileSync(join(target, "dir/other"), "utf8"), "text");
  umount(target);
  for (const [name, said] of [
    ["lower.tar.xz", /lower.tar.xz: the stream is compressed with xz hint: decompress it first/],
    ["cut.tar.gz", /cut.tar.gz: gzip stream: it ends too early/],
  ] as const) {
    const { status, stderr } = run("-o", `lowerdir=${at.path(name)}`, target);
    assert.equal(status, 1);
    assert.match(stderr.replaceAll("\n", " "), said);
  }
});

test("SIGTERM unmounts", async (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  const { status, stderr } = run("-o", `${at.options},redirect_dir=on`, target);
  assert.equal(status, 0, stderr);
  fs.renameSync(join(target, "dir"), join(target, "moved"));
  const pid = serverOf(target);
  process.kill(pid, "SIGTERM");
  await gone(pid);
  assert.equal(isMountPoint(target), false);
  assert.deepEqual(fs.readdirSync(at.path("upper")).sort(), ["dir", "moved"]);
});

test("a mount namespace that all have left ends, and its mounts with it", async (t) => {
  const at = folders(t);
  if (!at) return;
  // One within the other: it has to go first.
  fs.mkdirSync(at.path("inner"));
  const words = [process.execPath, ...process.execArgv, program].map((word) => `'${word}'`).join(" ");
  const script = `${words} -o ${at.options} ${at.path("merged")} &&
    ${words} -o lowerdir=${at.path("merged")} ${at.path("inner")} && echo ready && exec sleep 600`;
  const shell = spawn("unshare", ["-m", "sh", "-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(shell.stdout, "data");
  assert.equal(isMountPoint(at.path("merged")), false);
  const servers = [at.path("merged"), at.path("inner")].map(serverOf);
  shell.kill("SIGKILL");
  await once(shell, "exit");
  for (const pid of servers) await gone(pid);
});

test("what cannot be mounted is said, and leaves nothing", (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  for (const [args, said] of [
    [["-o", "lowerdir=/nonexistent", target], /nonexistent: ENOENT/],
    [["-o", "lowerdr=/", target], /did you mean lowerdir/],
    [["-o", at.options], /usage/],
    [["-o", at.options, at.path("missing")], /missing: ENOENT/],
  ] as const) {
    const { status, stderr } = run(...args);
    assert.notEqual(status, 0);
    assert.match(stderr, said);
  }
  assert.equal(isMountPoint(target), false);
});

test("what goes wrong inside is said to who asked, in the log after that", async (t) => {
  const at = folders(t);
  if (!at) return;
  const target = at.path("merged");
  // Data of a metacopy file that no layer has any more.
  fs.writeFileSync(at.path("upper/lost"), "");
  const mark = inUserNamespace() ? "user.overlay.metacopy" : "trusted.overlay.metacopy";
  sys.lsetxattrat(C.AT_FDCWD, at.path("upper/lost"), mark, Buffer.alloc(0));
  const log = at.path("log");
  const { status, stderr } = run("-o", `${at.options},log=${log}`, target);
  assert.equal(status, 0, stderr);
  for (let i = 0; i < 2; i++) assert.throws(() => fs.readFileSync(join(target, "lost")), { code: "EIO" });
  for (let i = 0; fs.readFileSync(log, "utf8") === "" && i < 100; i++)
    await new Promise((done) => setTimeout(done, 20));
  assert.match(fs.readFileSync(log, "utf8"), /^lamella-overlay\[\d+\]: lost: no lower layer holds its data.*\n$/);
});

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
