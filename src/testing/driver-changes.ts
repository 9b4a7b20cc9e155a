/** The driver suite: a layer's changes, told exactly, and carried over whole into another layer. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { AT_FDCWD } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { SceneTest } from "./driver-scene.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";
import { furnish } from "./driver-trees.ts";

const HUGE_BYTES = 9 * 2 ** 30;

/** An ACL with an entry for user 0, as the kernel stores it (include/uapi/linux/posix_acl_xattr.h). */
const acl = Buffer.from(
  "02000000 01000600ffffffff 0200070000000000 04000400ffffffff 10000700ffffffff 20000400ffffffff".replaceAll(" ", ""),
  "hex",
);

/** Something to change: a few directories and files whose times are whole seconds, as a layer's often are. */
function plant(root: string): void {
  for (const name of ["dir", "keep", "other", "deep", "deep/er"]) mkdirSync(`${root}/${name}`);
  for (const name of ["dir/a", "dir/b", "keep/x", "keep/y", "other/z", "deep/er/f", "plain"])
    writeFileSync(`${root}/${name}`, name);
  linkSync(`${root}/plain`, `${root}/other/linked`);
  symlinkSync("plain", `${root}/link`);
  for (const name of ["dir/a", "plain", "keep/x"]) utimesSync(`${root}/${name}`, 1234567890, 1234567890);
}

export function testChanges(scene: SceneTest, options: DriverSuiteOptions): void {
  const lacks = new Set(options.lacks);

  scene("tells no change of a layer that was only looked at", async (s) => {
    const base = await s.layer(undefined, plant);
    const child = await s.layer(base, (root) => {
      readFileSync(`${root}/dir/a`);
      readdirSync(`${root}/deep/er`);
    });
    assert.deepEqual(await s.changes(child), []);
    const { exported, copy } = await s.roundTrip(child, base);
    assert.equal(exported.tarSizeBytes, 1024);
    assert.deepEqual(await s.listing(copy), await s.listing(base));
  });

  scene("lists exactly what was added, changed and deleted", async (s) => {
    const base = await s.layer(undefined, plant);
    assert.deepEqual(await s.changes(base), [
      "A /deep",
      "A /deep/er",
      "A /deep/er/f",
      "A /dir",
      "A /dir/a",
      "A /dir/b",
      "A /keep",
      "A /keep/x",
      "A /keep/y",
      "A /link",
      "A /other",
      "A /other/linked",
      "A /other/z",
      "A /plain",
    ]);
    const child = await s.layer(base, (root) => {
      appendFileSync(`${root}/dir/a`, "more");
      rmSync(`${root}/dir/b`);
      chmodSync(`${root}/keep/x`, 0o600);
      mkdirSync(`${root}/new/dir`, { recursive: true });
      writeFileSync(`${root}/new/dir/file`, "n");
      rmSync(`${root}/link`);
      symlinkSync("dir", `${root}/link`);
      rmSync(`${root}/deep/er/f`);
      rmSync(`${root}/other/z`);
      writeFileSync(`${root}/other/z`, "made again");
    });
    assert.deepEqual(await s.changes(child), [
      "C /deep",
      "C /deep/er",
      "D /deep/er/f",
      "C /dir",
      "C /dir/a",
      "D /dir/b",
      "C /keep",
      "C /keep/x",
      "C /link",
      "A /new",
      "A /new/dir",
      "A /new/dir/file",
      "C /other",
      "C /other/z",
    ]);
  });

  scene("sees a change that keeps size and modification time", async (s) => {
    const base = await s.layer(undefined, plant);
    const child = await s.layer(base, (root) => {
      writeFileSync(`${root}/keep/x`, "KEEP/X");
      utimesSync(`${root}/keep/x`, 1234567890, 1234567890);
      const file = openSync(`${root}/dir/a`, "r+");
      writeSync(file, "D");
      closeSync(file);
      utimesSync(`${root}/dir/a`, 1234567890, 1234567890);
    });
    assert.deepEqual(await s.changes(child), ["C /dir", "C /dir/a", "C /keep", "C /keep/x"]);
    const { copy } = await s.roundTrip(child, base);
    await s.read(copy, (root) => assert.equal(readFileSync(`${root}/dir/a`, "utf8"), "Dir/a"));
  });

  if (!lacks.has("xattrs"))
    scene("sees a change of attributes alone", async (s) => {
      const base = await s.layer(undefined, (root) => {
        plant(root);
        sys.lsetxattrat(AT_FDCWD, `${root}/keep/x`, "user.gone", Buffer.from("g"));
      });
      const child = await s.layer(base, (root) => {
        sys.lsetxattrat(AT_FDCWD, `${root}/dir/b`, "user.note", Buffer.from("n"));
        sys.lremovexattrat(AT_FDCWD, `${root}/keep/x`, "user.gone");
        if (!lacks.has("acls")) sys.lsetxattrat(AT_FDCWD, `${root}/deep/er/f`, "system.posix_acl_access", acl);
      });
      const acls = lacks.has("acls") ? [] : ["C /deep", "C /deep/er", "C /deep/er/f"];
      assert.deepEqual(await s.changes(child), [...acls, "C /dir", "C /dir/b", "C /keep", "C /keep/x"]);
      const { copy } = await s.roundTrip(child, base);
      assert.deepEqual(await s.listing(copy), await s.listing(child));
    });

  scene("keeps hard links within a layer, and across layers as far as its trees do", async (s) => {
    const base = await s.layer(undefined, plant);
    const child = await s.layer(base, (root) => {
      linkSync(`${root}/dir/b`, `${root}/deep/b`);
      writeFileSync(`${root}/one`, "1");
      linkSync(`${root}/one`, `${root}/two`);
      linkSync(`${root}/one`, `${root}/deep/three`);
      appendFileSync(`${root}/other/linked`, "x");
      rmSync(`${root}/plain`);
    });
    await s.read(child, (root) => {
      const inode = (name: string): number => statSync(`${root}/${name}`).ino;
      assert.equal(inode("one"), inode("two"));
      assert.equal(inode("one"), inode("deep/three"));
      assert.equal(inode("dir/b"), inode("deep/b"));
    });
    const { copy } = await s.roundTrip(child, base);
    assert.deepEqual(await s.listing(copy), await s.listing(child));
  });

  scene("replaces a file by a directory, a link and a file again, layer by layer", async (s) => {
    const kinds = ["file", "directory", "symlink"] as const;
    const make = (root: string, kind: (typeof kinds)[number], layer: number): void => {
      rmSync(`${root}/it`, { recursive: true, force: true });
      if (kind === "file") writeFileSync(`${root}/it`, `file ${layer}`);
      else if (kind === "symlink") symlinkSync(`to-${layer}`, `${root}/it`);
      else {
        mkdirSync(`${root}/it`);
        writeFileSync(`${root}/it/in-${layer}`, "");
      }
    };
    for (const shift of [0, 1, 2]) {
      let parent = await s.layer(undefined, plant);
      let copied = parent;
      for (let layer = 0; layer < 4; layer++) {
        const kind = kinds[(layer + shift) % 3] as (typeof kinds)[number];
        const id = await s.layer(parent, (root) => make(root, kind, layer));
        const { copy } = await s.roundTrip(id, copied);
        const shown = await s.listing(id);
        assert.deepEqual(await s.listing(copy), shown);
        assert.ok((await s.changes(id)).includes(`${layer === 0 ? "A" : "C"} /it`));
        parent = id;
        copied = copy;
      }
    }
  });

  scene("shows only the new content of a directory that was touched, removed and made again", async (s) => {
    const base = await s.layer(undefined, plant);
    const child = await s.layer(base, (root) => {
      writeFileSync(`${root}/dir/c`, "copied up");
      rmSync(`${root}/dir`, { recursive: true });
      mkdirSync(`${root}/dir`);
      writeFileSync(`${root}/dir/new`, "n");
    });
    assert.deepEqual(await s.changes(child), ["C /dir", "D /dir/a", "D /dir/b", "A /dir/new"]);
    const { copy } = await s.roundTrip(child, base);
    for (const id of [child, copy, await s.layer(copy)])
      await s.read(id, (root) => assert.deepEqual(readdirSync(`${root}/dir`), ["new"]));
    const again = await s.layer(child, (root) => writeFileSync(`${root}/dir/a`, "back"));
    assert.deepEqual(await s.changes(again), ["C /dir", "A /dir/a"]);
  });

  scene("follows deletions and new objects of one name through layers", async (s) => {
    let parent = await s.layer(undefined, plant);
    let copied = parent;
    for (let layer = 0; layer < 5; layer++) {
      const gone = layer % 2 === 0;
      const id = await s.layer(parent, (root) => {
        if (gone) rmSync(`${root}/deep`, { recursive: true });
        else {
          mkdirSync(`${root}/deep`);
          writeFileSync(`${root}/deep/made-${layer}`, "");
        }
      });
      assert.deepEqual(await s.changes(id), gone ? ["D /deep"] : ["A /deep", `A /deep/made-${layer}`]);
      const { copy } = await s.roundTrip(id, copied);
      assert.deepEqual(await s.listing(copy), await s.listing(id));
      parent = id;
      copied = copy;
    }
  });

  if (options.renamesLowerDirectories)
    scene("carries the rename of a lower directory over", async (s) => {
      const base = await s.layer(undefined, plant);
      const child = await s.layer(base, (root) => {
        renameSync(`${root}/deep`, `${root}/keep/deeper`);
        renameSync(`${root}/dir`, `${root}/moved`);
        mkdirSync(`${root}/dir`);
      });
      assert.deepEqual(
        (await s.changes(child)).filter((line) => !line.includes("/keep")),
        ["D /deep", "C /dir", "D /dir/a", "D /dir/b", "A /moved", "A /moved/a", "A /moved/b"],
      );
      const { copy } = await s.roundTrip(child, base);
      assert.deepEqual(await s.listing(copy), await s.listing(child));
    });

  scene("carries one of everything over, byte for byte", async (s) => {
    const base = await s.layer(undefined, plant);
    const child = await s.layer(base, (root) => furnish(root, options));
    const { exported, copy } = await s.roundTrip(child, base);
    assert.deepEqual(await s.listing(copy), await s.listing(child));
    const again = await s.roundTrip(copy, base);
    assert.equal(again.exported.diffId, exported.diffId);
    assert.equal(again.exported.tarSizeBytes, exported.tarSizeBytes);
    const alone = await s.layer(undefined, (root) => furnish(root, options));
    const { copy: other } = await s.roundTrip(alone, undefined);
    assert.deepEqual(await s.listing(other), await s.listing(alone));
  });

  if (!lacks.has("huge files"))
    scene("takes files of more than 8 GiB that hold little", async (s) => {
      const huge = (root: string, text: string): void => {
        const file = openSync(`${root}/huge`, "a+");
        truncateSync(`${root}/huge`, HUGE_BYTES);
        writeSync(file, text);
        closeSync(file);
      };
      const base = await s.layer(undefined, (root) => huge(root, "base"));
      const child = await s.layer(base, (root) => huge(root, "child"));
      assert.deepEqual(await s.changes(child), ["C /huge"]);
      await s.read(child, (root) => {
        const stat = lstatSync(`${root}/huge`);
        assert.equal(stat.size, HUGE_BYTES + 5);
        assert.ok(stat.blocks * 512 < 64 << 20, `it takes ${stat.blocks} blocks`);
      });
      await s.read(base, (root) => assert.equal(lstatSync(`${root}/huge`).size, HUGE_BYTES + 4));
    });

  if (options.privileged)
    scene("tells a change of owner", async (s) => {
      const base = await s.layer(undefined, plant);
      const child = await s.layer(base, (root) => chownSync(`${root}/keep/y`, 7, 8));
      assert.deepEqual(await s.changes(child), ["C /keep", "C /keep/y"]);
    });
}
