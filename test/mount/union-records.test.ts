/** Owners and modes in attributes (`xattr_permissions`): what is written through ours fuse-overlayfs shows, and the reverse. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { findProgram } from "../../src/fs/find-program.ts";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { UnionServer } from "../support/union-server.ts";

const lower = `
  mkdir -p dir/sub shared; echo one > dir/file; echo two > dir/sub/file; ln -s file dir/link; echo x > tool
  chown 12:34 dir/file; chmod 4711 tool; chown 5:6 dir; chmod 2775 shared; chgrp 77 shared; chmod 0 dir/sub/file`;

/** One after the other. */
const changes = [
  `umask 027; echo new > new; mkdir made; mkdir shared/group; echo x > shared/file; chown 100:200 new; chmod 4755 new
  chown 3:4 dir/sub; chmod 600 dir/file; echo more >> dir/file; mv dir moved; mkfifo pipe; ln new linked; rm -r shared/group`,
  `chown 7:8 new; chmod 711 moved; echo other > tool; mkdir -m 1777 open; echo y > open/file; chown 9 open/file
  rm linked; chmod 2755 open; mkdir open/inherits; cp -p moved/file copy`,
];

interface Folders {
  readonly at: (name: string) => string;
  readonly union: UnionOptions;
}

function folders(t: TestContext): Folders | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-records-"));
  const at = (name: string): string => join(folder, name);
  for (const name of ["lower", "upper", "work", "merged", "plain", "plain-upper", "plain-work"]) fs.mkdirSync(at(name));
  t.after(() => {
    for (const name of ["plain", "merged"]) umount(at(name));
    execFileSync("rm", ["-rf", folder]);
  });
  sh(lower, at("lower"));
  const prefix = "trusted.overlay.";
  return {
    at,
    union: { lowers: [at("lower")], upper: at("upper"), work: at("work"), prefix, redirectDir: false, metacopy: false },
  };
}

/** What there is, with types, modes, owners and contents; of links and pipes, which can have no record, no owner. */
function listing(root: string): string {
  const files = execFileSync("find", [".", "!", "-type", "l", "!", "-type", "p", "-printf", "%p %y %m %U:%G\n"], {
    cwd: root,
  });
  const rest = execFileSync("find", [".", "(", "-type", "l", "-o", "-type", "p", ")", "-printf", "%p %y %l.\n"], {
    cwd: root,
  });
  const sums = execFileSync("sh", ["-c", "find . -type f -exec md5sum {} +"], { cwd: root });
  return [files, rest, sums].map((part) => part.toString().trim().split("\n").sort().join("\n")).join("\n\n");
}

for (const kind of [1, 2] as const)
  test(`xattr_permissions=${kind}: it looks as with owners of their own, to fuse-overlayfs too`, async (t) => {
    const here = folders(t);
    if (here === undefined) return;
    const { at, union } = here;
    const program = findProgram("fuse-overlayfs");
    await using server = new UnionServer();
    await using plain = new UnionServer();
    await plain.mount(at("plain"), { ...union, upper: at("plain-upper"), work: at("plain-work") });
    const recorded: UnionOptions = { ...union, permissions: kind, marks: "any" };
    const theirs = (use: () => void): void => {
      if (program === undefined) return;
      const layers = `lowerdir=${at("lower")},upperdir=${at("upper")},workdir=${at("work")}`;
      execFileSync(program, ["-o", `${layers},xattr_permissions=${kind}`, at("merged")], { stdio: "pipe" });
      try {
        use();
      } finally {
        umount(at("merged"));
      }
    };
    // Up to 1.10 it knows the second kind in an upper layer by an older name, and goes on with that, as ours then does.
    theirs(() => undefined);
    for (const change of changes) {
      sh(change, at("plain"));
      const expected = listing(at("plain"));
      await server.mount(at("merged"), recorded);
      sh(change, at("merged"));
      assert.equal(listing(at("merged")), expected);
      await server.unmount();
      theirs(() => assert.equal(listing(at("merged")), expected));
    }
    // What it makes of some calls is not right, but ours shows the same of it.
    let shown: string | undefined;
    theirs(() => {
      sh(
        "chown 21:22 made; touch made/by-them; chmod 4750 made/by-them; mkdir more; mv new newer; chmod 600 copy",
        at("merged"),
      );
      shown = listing(at("merged"));
    });
    await server.mount(at("merged"), recorded);
    if (shown !== undefined) assert.equal(listing(at("merged")), shown);
    else sh("mv new newer", at("merged"));
    // Nobody sees the records, or forges one.
    assert.equal(execFileSync("getfattr", ["-m", "override_stat", at("merged/newer")]).toString(), "");
    const upper = execFileSync("getfattr", ["-m", "override_stat", "--absolute-names", at("upper/newer")]).toString();
    const name = /^\S+override_stat$/m.exec(upper)?.[0] ?? "";
    assert.match(name, kind === 1 ? /^security\./ : /^user\./);
    const forge = () => execFileSync("setfattr", ["-n", name, "-v", "0:0:4755", at("merged/newer")], { stdio: "pipe" });
    assert.throws(forge, /not permitted/);
    await server.unmount();
    const { uid, mode } = fs.statSync(at("upper/newer"));
    assert.deepEqual([uid, mode & 0o7000], [0, 0]);
    // As a lower layer it tells by itself that it has records.
    await plain.unmount();
    const { upper: _, work: __, ...below } = union;
    const lowers = [at("upper"), at("lower")];
    await server.mount(at("merged"), { ...below, lowers });
    assert.equal(fs.statSync(at("merged/newer")).uid, 7);
    await server.unmount();
    await server.mount(at("merged"), { ...below, lowers, permissions: "inodes" });
    assert.equal(fs.statSync(at("merged/newer")).uid, 0);
    await server.unmount();
    if (program === undefined) return;
    // And so does one that ours has begun, to theirs.
    const own = { ...union, upper: at("plain-upper"), work: at("plain-work") };
    execFileSync("sh", ["-c", "rm -r plain-upper plain-work; mkdir plain-upper plain-work"], { cwd: at(".") });
    await server.mount(at("merged"), { ...own, permissions: kind });
    sh(changes[0] ?? "", at("merged"));
    const expected = listing(at("merged"));
    await server.unmount();
    execFileSync(program, ["-o", `lowerdir=${at("plain-upper")}:${at("lower")}`, at("merged")], { stdio: "pipe" });
    assert.equal(listing(at("merged")), expected);
  });
