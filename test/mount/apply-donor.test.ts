/** Layers that share data with the same layer elsewhere, on file systems with reflinks and without. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { ContentDonor } from "../../src/diff/apply-donor.ts";
import { type AppliedTar, applyLayer } from "../../src/diff/apply-layer.ts";
import { type FileSystemType, placeOf } from "../support/file-systems.ts";
import { tarOf } from "../support/image-archive.ts";
import { snapshot } from "../support/tree-snapshot.ts";

const megabyte = Buffer.alloc(1024 * 1024, "0123456789abcdef");
const tar = tarOf([
  { name: "d/", type: "directory" },
  { name: "d/big", content: megabyte },
  { name: "d/again", type: "hardlink", linkName: "d/big" },
  { name: "d/small", content: "small" },
  { name: "d/empty" },
  { name: "d/owned", content: Buffer.alloc(9000, "x"), uid: 7, gid: 8, mode: 0o4755 },
  { name: "d/marked", content: Buffer.alloc(9000, "y"), xattrs: { "user.mark": Buffer.from("1") } },
]);

async function* chunks(): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < tar.length; at += 100_000) yield tar.subarray(at, at + 100_000);
}

for (const type of ["host", "xfs", "btrfs"] as const satisfies readonly FileSystemType[]) {
  const place = placeOf(type);
  describe(`sharing data on ${type}`, { skip: place.skip }, () => {
    const clones = type !== "host";

    async function apply(directory: string, donor?: ContentDonor): Promise<AppliedTar> {
      mkdirSync(join(directory, "root"));
      return applyLayer({
        target: { whiteouts: "overlay", root: join(directory, "root"), lowers: [], prefix: "trusted.overlay." },
        tar: chunks(),
        recordPath: join(directory, "record"),
        spillDir: join(directory, "spill"),
        donor,
      });
    }

    /** A layer, something done to it, and the same layer again with the first as its donor. */
    async function again(
      link: boolean,
      change: (root: string) => void = () => {},
    ): Promise<{ first: string; second: string; applied: AppliedTar }> {
      const directory = mkdtempSync(join(place.directory, "donor-"));
      const [a, b, plain] = ["a", "b", "plain"].map((name) => join(directory, name)) as [string, string, string];
      for (const path of [a, b, plain]) mkdirSync(path);
      const { diffId } = await apply(a);
      await apply(plain);
      change(join(a, "root"));
      const applied = await apply(b, { directory: join(a, "root"), link });
      assert.equal(applied.diffId, diffId);
      assert.deepEqual(readFileSync(join(b, "record")), readFileSync(join(plain, "record")));
      const [want, have] = [snapshot(join(plain, "root")), snapshot(join(b, "root"))];
      assert.deepEqual(have.lines, want.lines);
      return { first: join(a, "root"), second: join(b, "root"), applied };
    }

    function isLinked(a: string, b: string, name: string): boolean {
      return statSync(join(a, name)).ino === statSync(join(b, name)).ino;
    }

    test("reflinks share data, never inodes", async () => {
      const { first, second, applied } = await again(false);
      // A small file is written, not cloned.
      assert.equal(applied.sharedBytes, clones ? megabyte.length + 18_000 : 0);
      for (const name of ["d/big", "d/small", "d/owned"]) assert.equal(isLinked(first, second, name), false, name);
    });

    test("hard links share inodes where there are no reflinks", async () => {
      const { first, second, applied } = await again(true);
      if (clones) return;
      for (const name of ["d/big", "d/small", "d/owned", "d/marked"]) assert.ok(isLinked(first, second, name), name);
      assert.equal(applied.sharedBytes, megabyte.length + 5 + 18_000);
    });

    test("a donor that differs changes nothing", async () => {
      const { applied } = await again(true, (root) => {
        execFileSync("dd", ["of=d/big", "bs=1", "seek=700000", "conv=notrunc"], {
          cwd: root,
          input: "!",
          stdio: "pipe",
        });
        writeFileSync(join(root, "d/small"), "SMALL");
        appendFileSync(join(root, "d/owned"), "longer");
        truncateSync(join(root, "d/marked"), 8999);
      });
      assert.equal(applied.sharedBytes, 0);
    });

    test("an inode with other metadata is not linked", async () => {
      const { first, second } = await again(true, (root) => {
        chmodSync(join(root, "d/small"), 0o600);
        execFileSync("touch", ["-d", "@5", "d/owned"], { cwd: root });
        execFileSync("setfattr", ["-n", "user.mark", "-v", "2", "d/marked"], { cwd: root });
      });
      for (const name of ["d/small", "d/owned", "d/marked"]) assert.equal(isLinked(first, second, name), false, name);
    });

    test("what is no file of its own is no donor", async () => {
      const { applied } = await again(true, (root) => {
        execFileSync("sh", ["-euc", "rm d/big d/again; ln -s /etc/passwd d/big; rm d/small; mkfifo d/small"], {
          cwd: root,
        });
        // The inode of a file that overlay copied up without its data.
        execFileSync("setfattr", ["-n", "trusted.overlay.metacopy", "d/owned"], { cwd: root });
        execFileSync("sh", ["-euc", "mv d/marked elsewhere; mkdir d/marked"], { cwd: root });
      });
      assert.equal(applied.sharedBytes, 0);
    });
  });
}
