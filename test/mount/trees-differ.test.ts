/** The two-tree differ between overlay mounts, where one inode number may stand for two objects. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { OverlayLab, privateMounts, short } from "../support/overlay-lab.ts";

/** Mounts two layers twice, read-only and with an upper that `change` is run in; gives the changes between the two. */
function changesBetween(t: TestContext, options: { redirect: boolean; metacopy: boolean }, change: string): string[] {
  const entered = privateMounts();
  if (entered !== true) {
    t.skip(entered);
    return [];
  }
  using lab = new OverlayLab({ redirectDir: options.redirect, metacopy: options.metacopy });
  lab.base("mkdir -p d/e; echo one >d/f; echo two >d/e/g; echo three >h; ln h i; touch -d 2020-01-01 d/f d/e/g h");
  lab.base("mkdir d; echo four >d/j; touch -d 2020-01-01 d/j");
  // The kernel's clock for files ticks every few milliseconds; the layers are to be older than the upper.
  execFileSync("sleep", ["0.05"]);
  lab.upperOver(change);
  const parent = join(lab.directory, "parent");
  mkdirSync(parent);
  sys.mount("overlay", parent, "overlay", C.MS_RDONLY, `lowerdir=${lab.layers.join(":")}`);
  try {
    return [...new TreesDiffer({ kind: "trees", parent, tree: lab.merged }).changes()].map(short);
  } finally {
    sys.umount2(parent, C.MNT_DETACH);
  }
}

for (const redirect of [false, true]) {
  for (const metacopy of redirect ? [false, true] : [false]) {
    describe(`two overlay mounts, redirect_dir=${redirect}, metacopy=${metacopy}`, () => {
      const cases: readonly (readonly [string, string, readonly string[]])[] = [
        ["nothing", "true", []],
        ["opening for writing", ": >>d/f; touch -d 2020-01-01 d/f", []],
        ["same size, same time", "printf uno >d/f; echo >>d/f; touch -d 2020-01-01 d/f", ["M d/", "M d/f"]],
        [
          "same size, same time, same inode number",
          "printf 4 >>d/j; printf 'fou4\\n' >d/j; touch -d 2020-01-01 d/j",
          ["M d/", "M d/j"],
        ],
        ["a mode", "chmod 600 d/e/g", ["M d/", "M d/e/", "M d/e/g"]],
        ["an attribute", "setfattr -n trusted.x -v 1 d/f", ["M d/", "M d/f"]],
        ["a broken hard link", "chmod 600 i; chmod 644 i", ["M i"]],
        [
          "a moved directory",
          "touch -r d d.time; mv d/e k; touch -r d.time d; rm d.time",
          ["M d/", "D d/e", "A k/", "A k/g"],
        ],
      ];
      for (const [name, change, expected] of cases) {
        it(name, (t) => {
          const changes = changesBetween(t, { redirect, metacopy }, change);
          // The kernel keeps inode numbers of broken links or not, as it likes; the content decides.
          assert.deepEqual(changes, expected);
        });
      }
    });
  }
}
