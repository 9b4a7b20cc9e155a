import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CliLab } from "./cli-harness.ts";

/** As root the tests become a user without an entry in /etc/subuid; as anybody else they are that user. */
const uid = process.getuid?.() === 0 ? 65534 : undefined;
const lab = new CliLab(uid === undefined ? {} : { uid });
const unsupported = lab.unsupported();
after(() => lab[Symbol.dispose]());

describe("without root", { skip: unsupported }, () => {
  before(() => lab.importBase());

  test("commands run in a user namespace", () => {
    const lines = lab.ok("info").split("\n");
    assert.ok(lines.includes("  userxattr: true"));
    assert.ok(lines.some((line) => line.startsWith(" User Namespace: ")));
    assert.match(lab.ok("images"), /^base /m);
    assert.match(lab.ok("cat", "base", "/etc/passwd"), /^root:/);
  });

  test("run gives the command's status and root's view", () => {
    assert.equal(lab.ok("run", "--rm", "base", "sh", "-c", "id -u 2>/dev/null || echo 0; exit 0"), "0");
    assert.equal(lab.lamella("run", "--rm", "base", "sh", "-c", "exit 42").status, 42);
    assert.equal(lab.lamella("run", "--rm", "base", "no-such-program").status, 127);
  });

  test("a mount is refused outside a namespace and works inside one", () => {
    const id = lab.ok("create", "base");
    const { status, stdout, stderr } = lab.lamella("mount", id);
    assert.deepEqual([status, stdout], [1, ""]);
    assert.match(stderr, /^lamella: without root .*\nhint: work in one namespace: lamella unshare /);
    const script = lab.script(
      `path=$(lamella mount ${id}); echo x > "$path/etc/x"; mv "$path/data" "$path/moved"; lamella diff ${id}`,
    );
    assert.equal(script.status, 0, script.stderr);
    const lines = script.stdout.trimEnd().split("\n");
    assert.ok(lines.includes("A /etc/x") && lines.includes("D /data") && lines.includes("A /moved"));
    // The namespace, and the mount with it, ended with the script.
    assert.ok(lab.ok("diff", id).split("\n").includes("A /etc/x"));
    lab.ok("rm", id);
  });

  test("unshare passes the status, signals and standard input on", () => {
    assert.equal(lab.lamella("unshare", "sh", "-c", "exit 7").status, 7);
    assert.equal(lab.lamella("unshare", "sh", "-c", "kill -9 $$").status, 137);
    assert.match(lab.ok("unshare", "cat", "/proc/self/uid_map"), /^\s*0\s+\d+\s+\d+/);
  });

  test("nothing is left mounted", () => {
    assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(lab.directory));
  });
});

test("where there are no user namespaces, the message says so", () => {
  using bare = new CliLab({ ...(uid === undefined ? {} : { uid }), env: { PATH: join(lab.directory, "nothing") } });
  const { status, stderr } = bare.lamella("images");
  if (process.getuid?.() === 0 && uid === undefined) return;
  assert.equal(status, 1);
  assert.match(stderr, /^lamella: the program `unshare` is not installed\nhint: /);
});
