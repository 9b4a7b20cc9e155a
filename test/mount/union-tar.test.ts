/** Layers that are tars: the union shows what the kernel's overlayfs shows of the same layers unpacked. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { UnionFileSystem } from "../../src/fuse/union/union-file-system.ts";
import { mountKernelUnion } from "../support/kernel-union.ts";
import { privateMounts, sh } from "../support/overlay-lab.ts";
import { differences, snapshot, timeless } from "../support/tree-snapshot.ts";
import { UnionServer } from "../support/union-server.ts";

const base = `
  mkdir -p dir/sub empty gone replaced opaque/sub; echo one > dir/file; echo two > dir/sub/file; echo x > opaque/below
  head -c 3000000 /dev/urandom > big; truncate -s 9000000 sparse; echo data | dd of=sparse bs=1 seek=5000000 conv=notrunc
  ln dir/file dir/link; ln -s ../dir/file empty/symbolic; mkfifo dir/pipe; mknod dir/device c 1 3
  echo x > gone/file; echo x > replaced/file; echo lower > both; chown 12:34 both; chmod 4711 both
  setfattr -n user.some -v value dir/file; setfattr -n trusted.other -v more dir; setfacl -m u:5:r both
  find . -exec touch -h -d @1200000000.123456789 {} +`;

/** Of the second layer but for what it hides. */
const above = `
  mkdir -p dir opaque/new; echo three > dir/new; echo upper > both; echo file > replaced; echo new > opaque/new/file
  find . -exec touch -h -d @1300000000 {} +`;

test("a union over tars is what the kernel makes of their trees", async (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-tars-"));
  const at = (name: string): string => join(folder, name);
  t.after(() => {
    for (const name of ["kernel", "merged"]) umount(at(name));
    execFileSync("rm", ["-rf", folder]);
  });
  for (const name of ["base", "above", "marked", "empty", "merged", "kernel", "upper", "work"]) fs.mkdirSync(at(name));
  sh(base, at("base"));
  for (const tree of ["above", "marked"]) sh(above, at(tree));
  sh("mknod gone c 0 0; mknod dir/link c 0 0; setfattr -n trusted.overlay.opaque -v y opaque", at("above"));
  // A tar cannot keep the times of directories in which marks are made afterwards.
  sh("touch .wh.gone dir/.wh.link opaque/.wh..wh..opq", at("marked"));
  for (const tree of ["above", "marked"]) sh("touch -d @1300000000 . dir opaque", at(tree));
  const pack = ["--format=pax", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-S", "-cf"];
  for (const tree of ["base", "marked"]) execFileSync("tar", [...pack, at(`${tree}.tar`), "-C", at(tree), "."]);

  const lowers = [at("above"), at("base")];
  mountKernelUnion(at("kernel"), { lowers, prefix: "trusted.overlay.", redirectDir: false, metacopy: false });
  await using server = new UnionServer();
  const union: UnionOptions = {
    lowers: [at("marked.tar"), at("base.tar")],
    prefix: "trusted.overlay.",
    redirectDir: true,
    metacopy: true,
  };
  await server.mount(at("merged"), union);
  const expected = snapshot(at("kernel"), { asMounted: true });
  const linked = [...expected.inodes.keys()];
  assert.deepEqual(differences(expected, snapshot(at("merged"), { asMounted: true }), linked), []);
  execFileSync("cmp", [at("kernel/big"), at("merged/big")]);
  await server.unmount();

  // Copies of it go where the kernel can stack them on the tree.
  const writable = { ...union, upper: at("upper"), work: at("work") };
  await server.mount(at("merged"), writable);
  const change =
    "echo more >> big; echo more >> dir/file; chmod 600 sparse both; mv opaque moved; rm -r dir/sub; : > new";
  sh(change, at("merged"));
  const written = timeless(snapshot(at("merged")));
  const copied = Buffer.concat([fs.readFileSync(at("base/big")), Buffer.from("more\n")]);
  assert.ok(fs.readFileSync(at("merged/big")).equals(copied));
  execFileSync("cmp", [at("base/sparse"), at("merged/sparse")]);
  await server.unmount();
  mountKernelUnion(at("merged"), { ...writable, lowers });
  assert.deepEqual(differences(timeless(snapshot(at("merged"))), written), []);
});

test("a tar that cannot be served is refused", (t) => {
  const folder = fs.mkdtempSync(join(tmpdir(), "lamella-tars-"));
  t.after(() => execFileSync("rm", ["-rf", folder]));
  sh(
    "mkdir a; echo x > a/b; tar -czf packed a; tar -cPf out a/../a/b; head -c 1000 packed > cut; echo none > text",
    folder,
  );
  for (const [name, code] of [
    ["packed", "TAR_COMPRESSED"],
    ["out", "TAR_NAME"],
    ["text", "TAR_TRUNCATED"],
  ] as const) {
    const options = { prefix: "trusted.overlay.", redirectDir: false, metacopy: false } as const;
    assert.throws(() => new UnionFileSystem({ ...options, lowers: [join(folder, name)] }), { code });
  }
});
