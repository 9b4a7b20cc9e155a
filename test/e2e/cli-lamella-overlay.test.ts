/** A build with the driver fuse-overlay over our own union file system, as root and in a user namespace. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";
import { CliLab, project } from "./cli-harness.ts";

const lab = new CliLab();
after(() => lab[Symbol.dispose]());

const dockerfile = `FROM base
COPY note.txt /dir/note.txt
RUN mkdir /dir/sub && echo made > /dir/sub/made && rm /etc/hostname; mv /dir/note.txt /dir/renamed
RUN rm -r /dir/sub && mkdir /dir/sub && echo again > /dir/sub/again && ln /dir/renamed /linked
CMD ["cat", "/linked"]
`;

test("build, run, mount, diff and commit", { skip: lab.unsupported() }, () => {
  const options = ["--driver", "fuse-overlay", "--driver-opt", "fuse_overlay.mount_program=lamella-overlay"];
  const lamella = (command: string, ...words: string[]): string => lab.ok(command, ...options, ...words);
  const base = join(lab.directory, "base");
  assert.equal(lab.run([process.execPath, join(project, "examples/base-image.mjs"), base, "50"]).status, 0);
  lamella("import", base, "base");
  assert.match(lamella("info"), /lamella-overlay/);
  const context = join(lab.directory, "context");
  mkdirSync(context);
  writeFileSync(join(context, "Dockerfile"), dockerfile);
  writeFileSync(join(context, "note.txt"), "note\n");
  lamella("build", "-t", "app", context);
  assert.equal(lamella("run", "--rm", "app"), "note");
  assert.equal(lamella("ls", "app", "/dir").trim().split(/\s+/).at(-1), "sub");
  assert.equal(lamella("cat", "app", "/dir/sub/again"), "again");
  const id = lamella("create", "app");
  const path = lamella("mount", id);
  appendFileSync(join(path, "dir/renamed"), "more");
  rmSync(join(path, "linked"));
  assert.equal(lamella("diff", id), "C /dir\nC /dir/renamed\nD /linked");
  lamella("umount", id);
  lamella("commit", id, "app:2");
  assert.equal(lamella("cat", "app:2", "/dir/renamed"), "note\nmore");
  lamella("rm", id);
  assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(lab.directory));
});

if (!inUserNamespace()) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
