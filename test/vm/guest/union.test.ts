/** The union file system on the kernel of this machine: what older ones lack must cost nothing but speed. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { umount } from "../../../src/fs/mounts.ts";
import { mountKernelUnion } from "../../support/kernel-union.ts";
import { privateMounts, sh } from "../../support/overlay-lab.ts";
import { UnionServer } from "../../support/union-server.ts";

const LENGTH = 8 << 20;

test("files are read, changed, removed and moved, and the kernel's overlay sees the same", async () => {
  assert.equal(privateMounts(), true);
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-union-"));
  // Layers with attributes and whiteouts, whatever lies at the directory for temporary files.
  sh("truncate -s 128M image; mkfs.ext4 -q image; mkdir disk; mount -o loop image disk; chmod 755 . disk", folder);
  const at = (name: string): string => join(folder, "disk", name);
  for (const name of ["lower", "upper", "work", "merged"]) fs.mkdirSync(at(name));
  sh(
    `truncate -s ${LENGTH} sparse; echo end >> sparse; mkdir -p dir/sub; echo x > dir/sub/file; echo y > gone
    for f in a b; do echo text > $f; chown 1000 $f; chmod 4755 $f; done`,
    at("lower"),
  );
  const merged = at("merged");
  const options = {
    ...{ lowers: [at("lower")], upper: at("upper"), work: at("work"), prefix: "trusted.overlay." as const },
    ...{ redirectDir: true, metacopy: true },
  };
  try {
    {
      await using server = new UnionServer();
      await server.mount(merged, options);
      fs.chmodSync(join(merged, "sparse"), 0o600);
      const content = fs.readFileSync(join(merged, "sparse"));
      assert.equal(content.length, LENGTH + 4);
      assert.equal(content.toString("latin1", LENGTH - 1), "\0end\n");
      const fd = fs.openSync(join(merged, "gone"), "r+");
      fs.unlinkSync(join(merged, "gone"));
      fs.fchmodSync(fd, 0o640);
      fs.writeSync(fd, "z", 0);
      assert.equal(fs.fstatSync(fd).mode & 0o777, 0o640);
      fs.closeSync(fd);
      fs.renameSync(join(merged, "dir"), join(merged, "moved"));
      sh("echo new > made", merged);
      // Others write, by emptying and by appending.
      execFileSync("sh", ["-euc", ": > a; echo more >> b"], { cwd: merged, uid: 1000, gid: 1000 });
      for (const name of ["a", "b"]) assert.equal(fs.statSync(join(merged, name)).mode & 0o7777, 0o755, name);
    }
    mountKernelUnion(merged, options);
    assert.deepEqual(fs.readdirSync(merged).sort(), ["a", "b", "made", "moved", "sparse"]);
    assert.equal(fs.readFileSync(join(merged, "moved/sub/file"), "utf8"), "x\n");
    assert.equal(fs.readFileSync(join(merged, "b"), "utf8"), "text\nmore\n");
    assert.equal(fs.readFileSync(join(merged, "sparse")).length, LENGTH + 4);
  } finally {
    umount(merged);
    umount(join(folder, "disk"));
    execFileSync("rm", ["-rf", folder]);
  }
});
