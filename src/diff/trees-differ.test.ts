import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { walkSync } from "../fs/walk.ts";
import * as C from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { Change } from "./change.ts";
import { TreesDiffer } from "./trees-differ.ts";

const isRoot = process.getuid?.() === 0;
const home = fs.mkdtempSync(join(tmpdir(), "lamella-trees-"));
after(() => fs.rmSync(home, { recursive: true, force: true }));

/** The tmpfs of some hosts has no user attributes; what cannot be set cannot be tested. */
const haveXattrs = ((): boolean => {
  try {
    sys.lsetxattrat(C.AT_FDCWD, home, "user.lamella", Buffer.from("x"));
    sys.lremovexattrat(C.AT_FDCWD, home, "user.lamella");
    return true;
  } catch {
    return false;
  }
})();

// ---- what a tree holds, as plain data ---------------------------------------------------------------------------------

interface Snapshot {
  readonly [path: string]: Readonly<Record<string, unknown>>;
}

/** All that a layer can carry of a tree. Hard links show as the first name of their inode. */
function snapshot(root: string): Snapshot {
  const result: Record<string, Record<string, unknown>> = {};
  const first = new Map<string, string>();
  using fd = sys.open(root, C.O_RDONLY | C.O_DIRECTORY);
  walkSync(fd.fd, ({ path, name, dirFd, stat }) => {
    const type = stat.mode & C.S_IFMT;
    const key = sys.inodeKey(stat);
    if (type !== C.S_IFDIR && !first.has(key)) first.set(key, path);
    result[path] = {
      mode: stat.mode.toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      mtime: path === "" ? "" : `${stat.mtimeSec}.${stat.mtimeNsec}`,
      xattrs: sys
        .llistxattrat(dirFd, name)
        .sort()
        .map((x) => [x, sys.lgetxattrat(dirFd, name, x)?.toString("hex")]),
      device: type === C.S_IFCHR ? `${stat.rdevMajor}:${stat.rdevMinor}` : "",
      link: type === C.S_IFLNK ? sys.readlinkat(dirFd, name) : "",
      content:
        type === C.S_IFREG
          ? createHash("sha1")
              .update(fs.readFileSync(join(root, path)))
              .digest("hex")
          : "",
      first: type === C.S_IFDIR ? path : first.get(key),
    };
  });
  return result;
}

// ---- the plainest possible applier -------------------------------------------------------------------------------------

function apply(changes: readonly Change[], root: string, tree: string): void {
  const directories: { path: string; stat: sys.Stat }[] = [];
  const content = (path: string): Buffer => fs.readFileSync(join(tree, path));
  for (const change of changes) {
    const path = join(root, change.path);
    // Any change below a directory sets its time to now: what the layer does not set must stay.
    const above = dirname(path);
    if (change.path !== "") directories.push({ path: above, stat: sys.statx(C.AT_FDCWD, above) });
    if (change.kind === "deleted") {
      fs.rmSync(path, { recursive: true });
      continue;
    }
    assert.notEqual(change.kind, "opaque");
    if (change.kind === "opaque") continue;
    const { stat } = change;
    const type = stat.mode & C.S_IFMT;
    const old = fs.lstatSync(path, { throwIfNoEntry: false });
    assert.equal(old === undefined, change.kind === "added", `${change.kind} ${change.path}`);
    if (old && !(old.isDirectory() && type === C.S_IFDIR)) fs.rmSync(path, { recursive: true });
    if (change.linkTo !== undefined) {
      fs.linkSync(join(root, change.linkTo), path);
      continue;
    }
    if (type === C.S_IFDIR) {
      if (!old?.isDirectory()) fs.mkdirSync(path);
    } else if (type === C.S_IFREG) fs.writeFileSync(path, content(change.path));
    else if (type === C.S_IFLNK) fs.symlinkSync(change.linkTarget ?? "", path);
    else sys.mknodat(C.AT_FDCWD, path, stat.mode, stat.rdevMajor, stat.rdevMinor);
    if (isRoot) sys.lchownat(C.AT_FDCWD, path, stat.uid, stat.gid);
    if (type !== C.S_IFLNK) fs.chmodSync(path, stat.mode & 0o7777);
    for (const name of sys.llistxattrat(C.AT_FDCWD, path)) sys.lremovexattrat(C.AT_FDCWD, path, name);
    for (const { name, value } of change.xattrs) sys.lsetxattrat(C.AT_FDCWD, path, name, value);
    if (type === C.S_IFDIR) directories.push({ path, stat });
    else sys.utimensat(C.AT_FDCWD, path, stat);
  }
  const last = new Map<string, sys.Stat>();
  for (const { path, stat } of directories) {
    // A directory's own change comes before what is below it, and is what counts.
    if (!last.has(path)) last.set(path, stat);
  }
  for (const [path, stat] of last) if (fs.existsSync(path)) sys.utimensat(C.AT_FDCWD, path, stat);
}

// ---- random trees ------------------------------------------------------------------------------------------------------

const name = fc.constantFrom("a", "b", "a-b", "c", "Z");
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const number = fc.nat(3);
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("write" as const), path, number }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("mkdir" as const), path, number }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("rewrite" as const), path, number }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("link" as const), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("rename" as const), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("remove" as const), path }) },
  fc.record({ do: fc.constant("symlink" as const), path, number }),
  fc.record({ do: fc.constant("relink" as const), path, number }),
  fc.record({ do: fc.constant("fifo" as const), path }),
  fc.record({ do: fc.constant("device" as const), path, number }),
  fc.record({ do: fc.constant("socket" as const), path }),
  fc.record({ do: fc.constant("chmod" as const), path, number }),
  fc.record({ do: fc.constant("chown" as const), path, number }),
  fc.record({ do: fc.constant("touch" as const), path, number }),
  fc.record({ do: fc.constant("xattr" as const), path, number }),
  fc.record({ do: fc.constant("acl" as const), path, number }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function acl(uid: number): Buffer {
  const entries = [
    [1, 6, 0xffffffff],
    [2, 4, uid],
    [4, 4, 0xffffffff],
    [0x10, 4, 0xffffffff],
    [0x20, 0, 0xffffffff],
  ] as const;
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2, 0);
  entries.forEach(([tag, perm, id], i) => {
    value.writeUInt16LE(tag, 4 + i * 8);
    value.writeUInt16LE(perm, 6 + i * 8);
    value.writeUInt32LE(id, 8 + i * 8);
  });
  return value;
}

/** Does one thing to the tree at `root`; what cannot be done there (no such path, not a directory) is left out. */
function perform(root: string, op: Operation): unknown {
  const target = join(root, op.path);
  const keepTimes = (change: () => void): void => {
    const stat = sys.statx(C.AT_FDCWD, target);
    change();
    sys.utimensat(C.AT_FDCWD, target, stat);
  };
  try {
    switch (op.do) {
      case "write":
        // Never into a device or a fifo.
        if (fs.lstatSync(target, { throwIfNoEntry: false })?.isFile() === false) return undefined;
        return fs.writeFileSync(target, "content".repeat(op.number));
      case "mkdir":
        return fs.mkdirSync(target);
      case "rewrite": {
        // Same size, same time, other bytes.
        const size = fs.lstatSync(target).isFile() ? fs.statSync(target).size : 0;
        return size > 0 ? keepTimes(() => fs.writeFileSync(target, String(op.number).repeat(size))) : undefined;
      }
      case "link":
        return fs.linkSync(target, join(root, op.to));
      case "rename":
        return fs.renameSync(target, join(root, op.to));
      case "remove":
        return fs.rmSync(target, { recursive: true });
      case "symlink":
        return fs.symlinkSync(`to${op.number}`, target);
      case "relink":
        if (!fs.lstatSync(target).isSymbolicLink()) return undefined;
        return keepTimes(() => {
          fs.unlinkSync(target);
          fs.symlinkSync(`to${op.number}`, target);
        });
      case "fifo":
        return sys.mknodat(C.AT_FDCWD, target, C.S_IFIFO | 0o644);
      case "device":
        return isRoot ? sys.mknodat(C.AT_FDCWD, target, C.S_IFCHR | 0o600, 300, op.number) : undefined;
      case "socket":
        return sys.mknodat(C.AT_FDCWD, target, C.S_IFSOCK | 0o600);
      case "chmod":
        return fs.lstatSync(target).isSymbolicLink() ? undefined : fs.chmodSync(target, 0o4750 + op.number);
      case "chown":
        return isRoot ? fs.lchownSync(target, op.number, op.number) : undefined;
      case "touch":
        return sys.utimensat(C.AT_FDCWD, target, {
          atimeSec: 1,
          atimeNsec: 0,
          mtimeSec: 1_600_000_000 - op.number,
          mtimeNsec: op.number * 7,
        });
      case "xattr": {
        if (!haveXattrs) return undefined;
        const key = isRoot ? `trusted.x${op.number}` : `user.x${op.number}`;
        if (op.number === 3) sys.lremovexattrat(C.AT_FDCWD, target, key.replace("3", "1"));
        else sys.lsetxattrat(C.AT_FDCWD, target, key, Buffer.from([0, op.number, 255]));
        return undefined;
      }
      case "acl":
        if (haveXattrs) sys.lsetxattrat(C.AT_FDCWD, target, "system.posix_acl_access", acl(op.number));
        return undefined;
    }
  } catch (error) {
    const expected = ["ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "EINVAL", "ENOTEMPTY", "EPERM", "ENOTSUP"];
    if (!expected.includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return undefined;
  }
}

function withoutSockets(tree: Snapshot): Snapshot {
  return Object.fromEntries(Object.entries(tree).filter(([, object]) => !String(object.mode).startsWith("140")));
}

let trees = 0;
function copied(from: string): string {
  const to = join(home, `tree${trees++}`);
  execFileSync("cp", ["-a", from, to]);
  return to;
}

function diff(parent: string | undefined, tree: string, threads = 1): Change[] {
  return [...new TreesDiffer({ kind: "trees", parent, tree }, { threads }).changes()];
}

/** Deletions first, then names in byte order, parents before children. */
function assertOrdered(changes: readonly Change[]): void {
  const key = (change: Change): string[] =>
    change.path.split("/").map((part, i, parts) => {
      const last = i === parts.length - 1;
      return (last && change.kind === "deleted" ? "0" : "1") + part;
    });
  const before = (a: string[], b: string[]): boolean => {
    for (let i = 0; i < Math.min(a.length, b.length); i++) {
      if (a[i] !== b[i]) return (a[i] ?? "") < (b[i] ?? "");
    }
    return a.length < b.length;
  };
  const below = changes.filter((change) => change.path !== "");
  for (let i = 1; i < below.length; i++) {
    const [a, b] = [below[i - 1], below[i]];
    if (a && b) assert.ok(before(key(a), key(b)), `${a.path} (${a.kind}) before ${b.path} (${b.kind})`);
  }
}

describe("the two-tree differ", () => {
  it("gives changes that turn the parent into the tree, for random trees", () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 25 }),
        fc.array(operation, { maxLength: 12 }),
        fc.boolean(),
        (before, edits, withParent) => {
          const parent = join(home, `tree${trees++}`);
          fs.mkdirSync(parent);
          const made = [parent];
          try {
            for (const op of before) perform(parent, op);
            const tree = copied(parent);
            made.push(tree);
            for (const op of edits) perform(tree, op);
            const changes = diff(withParent ? parent : undefined, tree);
            assertOrdered(changes);
            const result = withParent ? copied(parent) : join(home, `tree${trees++}`);
            made.push(result);
            if (!withParent) fs.mkdirSync(result);
            apply(changes, result, tree);
            const expected = withoutSockets(snapshot(tree));
            // A socket that both trees have is no change, and stays.
            const got = withoutSockets(snapshot(result));
            assert.deepEqual(got, expected);
            assert.deepEqual(diff(result, tree), [], "nothing is left to change");
          } finally {
            for (const dir of made) fs.rmSync(dir, { recursive: true, force: true });
          }
        },
      ),
      { numRuns: 250, interruptAfterTimeLimit: 30_000 },
    );
  });

  it("finds a change of content that leaves size and time as they were", () => {
    const parent = join(home, "same");
    fs.mkdirSync(parent);
    fs.writeFileSync(join(parent, "f"), "one");
    fs.writeFileSync(join(parent, "g"), "one");
    const tree = copied(parent);
    perform(tree, { do: "rewrite", path: "f", number: 1 });
    assert.deepEqual(
      diff(parent, tree).map((change) => `${change.kind} ${change.path}`),
      ["modified f"],
    );
  });

  it("emits the unchanged directories above a change, and nothing else", () => {
    const parent = join(home, "above");
    fs.mkdirSync(join(parent, "d/e"), { recursive: true });
    for (const file of ["d/e/f", "d/e/g", "d/h"]) fs.writeFileSync(join(parent, file), "x");
    const tree = copied(parent);
    fs.appendFileSync(join(tree, "d/e/f"), "y");
    assert.deepEqual(
      diff(parent, tree).map((change) => `${change.kind} ${change.path}`),
      ["modified d", "modified d/e", "modified d/e/f"],
    );
  });

  it("keeps hard links that only their structure tells apart", () => {
    const parent = join(home, "links");
    fs.mkdirSync(parent);
    for (const file of ["a", "b", "c", "d"]) fs.writeFileSync(join(parent, file), "same");
    fs.linkSync(join(parent, "a"), join(parent, "e"));
    execFileSync("touch", ["-d", "2020-01-01", "a", "b", "c", "d"], { cwd: parent });
    const tree = copied(parent);
    const at = sys.statx(C.AT_FDCWD, tree);
    fs.unlinkSync(join(tree, "b"));
    fs.linkSync(join(tree, "c"), join(tree, "b"));
    fs.unlinkSync(join(tree, "e"));
    fs.copyFileSync(join(parent, "e"), join(tree, "e"));
    execFileSync("touch", ["-d", "2020-01-01", "e"], { cwd: tree });
    sys.utimensat(C.AT_FDCWD, tree, at);
    assert.deepEqual(
      diff(parent, tree).map((change) => [change.path, "linkTo" in change ? change.linkTo : undefined]),
      [
        ["b", undefined],
        ["c", "b"],
        ["e", undefined],
      ],
    );
  });

  it("compares sparse files without reading their holes", () => {
    const parent = join(home, "sparse");
    fs.mkdirSync(parent);
    const file = join(parent, "f");
    fs.writeFileSync(file, "");
    fs.truncateSync(file, 2 ** 40);
    const fd = fs.openSync(file, "r+");
    fs.writeSync(fd, "end", 2 ** 39);
    fs.closeSync(fd);
    const tree = join(home, "sparse-copy");
    execFileSync("cp", ["-a", "--sparse=always", parent, tree]);
    const started = performance.now();
    assert.deepEqual(diff(parent, tree), []);
    assert.ok(performance.now() - started < 5000);
  });

  it("takes names that are not UTF-8, in the order of their bytes", () => {
    const parent = join(home, "bytes");
    fs.mkdirSync(parent);
    const tree = copied(parent);
    for (const name of ["\xff", "z", "\xc3\xa9", "\x01"]) {
      fs.mkdirSync(Buffer.from(join(tree, name), "latin1"));
    }
    assert.deepEqual(
      diff(parent, tree).map((change) => change.path),
      ["\x01", "z", "\xc3\xa9", "\xff"],
    );
  });

  it("refuses a changed name that a layer would read as a deletion", () => {
    const parent = join(home, "names");
    fs.mkdirSync(parent);
    const tree = copied(parent);
    fs.writeFileSync(join(tree, ".wh.x"), "");
    assert.throws(() => diff(parent, tree), { code: "INEXPRESSIBLE_NAME" });
  });

  it("gives the same stream with any number of threads", () => {
    const parent = join(home, "many");
    for (let i = 0; i < 120; i++) {
      const dir = join(parent, `d${i % 7}/e${i}`);
      fs.mkdirSync(dir, { recursive: true });
      for (let j = 0; j < 60; j++) fs.writeFileSync(join(dir, `f${j}`), String(j));
    }
    const tree = copied(parent);
    for (let i = 0; i < 120; i += 9) {
      fs.writeFileSync(join(tree, `d${i % 7}/e${i}/f${i % 60}`), "changed");
      fs.rmSync(join(tree, `d${i % 7}/e${i}/f${(i + 1) % 60}`));
      fs.linkSync(join(tree, `d${i % 7}/e${i}/f2`), join(tree, `d${(i + 3) % 7}/new${i}`));
    }
    const plain = (changes: readonly Change[]): unknown[] =>
      changes.map((c) => [c.kind, c.path, "linkTo" in c ? c.linkTo : undefined]);
    const one = plain(diff(parent, tree, 1));
    assert.ok(one.length > 50);
    for (const threads of [2, 4, 4]) assert.deepEqual(plain(diff(parent, tree, threads)), one);
  });
});
