/** The driver suite: what a layer's tree keeps, and keeps apart. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hasCode } from "../errors/syscall-error.ts";
import { AT_FDCWD, O_RDONLY, S_IFCHR, S_IFIFO } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { SceneTest } from "./driver-scene.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";
import { listTree } from "./tree-listing.ts";

/** A tree with one of everything a layer can hold. */
export function furnish(
  root: string,
  { privileged, lacks = [] }: Pick<DriverSuiteOptions, "privileged" | "lacks">,
): void {
  const own = (path: string, uid: number, gid: number): void => {
    if (privileged) chownSync(path, uid, gid);
  };
  mkdirSync(`${root}/bin`);
  writeFileSync(`${root}/bin/su`, "#!/bin/sh\n");
  own(`${root}/bin/su`, 0, 12);
  chmodSync(`${root}/bin/su`, 0o6755);
  mkdirSync(`${root}/tmp`);
  chmodSync(`${root}/tmp`, 0o1777);
  mkdirSync(`${root}/home`);
  writeFileSync(`${root}/home/read-only`, "r");
  own(`${root}/home/read-only`, 1000, 1001);
  chmodSync(`${root}/home/read-only`, 0o400);
  linkSync(`${root}/home/read-only`, `${root}/linked`);
  symlinkSync("home/read-only", `${root}/symlink`);
  symlinkSync("/nowhere", `${root}/dangling`);
  writeFileSync(`${root}/sparse`, "start");
  truncateSync(`${root}/sparse`, 8 << 20);
  writeFileSync(Buffer.from(`${root}/not-utf8-\xff\xfe`, "latin1"), "bytes");
  sys.mknodat(AT_FDCWD, `${root}/fifo`, S_IFIFO | 0o640);
  if (privileged && !lacks.includes("devices")) sys.mknodat(AT_FDCWD, `${root}/device`, S_IFCHR | 0o666, 1, 3);
  if (!lacks.includes("xattrs")) sys.lsetxattrat(AT_FDCWD, `${root}/home`, "user.note", Buffer.from([0, 255, 1]));
  sys.utimensat(AT_FDCWD, `${root}/tmp`, { atimeSec: 1, atimeNsec: 2, mtimeSec: 1234567890, mtimeNsec: 123456789 });
  sys.utimensat(AT_FDCWD, root, { atimeSec: 1, atimeNsec: 2, mtimeSec: 987654321, mtimeNsec: 5 });
  chmodSync(root, 0o751);
}

export function testTrees(scene: SceneTest, options: DriverSuiteOptions): void {
  const { metadataCopies, renamesLowerDirectories, lacks = [] } = options;

  scene("shows a child exactly its parent's tree", async (s) => {
    const base = await s.layer(undefined, (root) => furnish(root, options));
    const expected = await s.read(base, listTree);
    const child = await s.layer(base);
    const grandchild = await s.layer(child);
    for (const id of [base, child, grandchild]) assert.deepEqual(await s.read(id, listTree), expected);
    if (lacks.includes("sparse files")) return;
    const blocks = await s.read(grandchild, (root) => statSync(`${root}/sparse`).blocks);
    assert.ok(blocks * 512 < 1 << 20, `a sparse file of 8 MiB takes ${blocks} blocks`);
  });

  scene("keeps what a child does away from its parent", async (s) => {
    const base = await s.layer(undefined, (root) => {
      furnish(root, options);
      mkdirSync(`${root}/dir`);
      writeFileSync(`${root}/dir/old`, "old");
      writeFileSync(`${root}/becomes-dir`, "file");
      mkdirSync(`${root}/becomes-file`);
      writeFileSync(`${root}/becomes-file/x`, "x");
    });
    const before = await s.read(base, listTree);
    const child = await s.layer(base, (root) => {
      rmSync(`${root}/dir`, { recursive: true });
      mkdirSync(`${root}/dir`);
      writeFileSync(`${root}/dir/new`, "new");
      rmSync(`${root}/becomes-dir`);
      mkdirSync(`${root}/becomes-dir`);
      writeFileSync(`${root}/becomes-dir/y`, "y");
      rmSync(`${root}/becomes-file`, { recursive: true });
      writeFileSync(`${root}/becomes-file`, "now a file");
      rmSync(`${root}/bin`, { recursive: true });
      writeFileSync(Buffer.from(`${root}/not-utf8-\xff\xfe`, "latin1"), "changed");
      writeFileSync(`${root}/linked`, "one name of two", { flag: "a" });
    });
    const changed = await s.read(child, listTree);
    const grandchild = await s.layer(child);
    assert.deepEqual(await s.read(base, listTree), before);
    await s.read(grandchild, (root) => {
      assert.deepEqual(listTree(root), changed);
      assert.deepEqual(readdirSync(`${root}/dir`), ["new"]);
      assert.deepEqual(readdirSync(`${root}/becomes-dir`), ["y"]);
      assert.equal(readFileSync(`${root}/becomes-file`, "utf8"), "now a file");
      assert.throws(
        () => lstatSync(`${root}/bin`),
        (error) => hasCode(error, "ENOENT"),
      );
    });
  });

  if (renamesLowerDirectories)
    scene("renames a directory of a lower layer without copying it", async (s) => {
      const base = await s.layer(undefined, (root) => {
        mkdirSync(`${root}/big`);
        writeFileSync(`${root}/big/data`, Buffer.alloc(4 << 20, 7));
      });
      const child = await s.layer(base, (root) => renameSync(`${root}/big`, `${root}/moved`));
      await s.read(child, (root) => {
        assert.deepEqual(readdirSync(root), ["moved"]);
        assert.equal(statSync(`${root}/moved/data`).size, 4 << 20);
      });
      if (s.driver.capabilities.stacks) assert.ok((await s.driver.usage(child)).sizeBytes < 1 << 20);
    });

  if (metadataCopies)
    scene("changes owners and modes of a lower tree without copying data", async (s) => {
      const base = await s.layer(undefined, (root) => {
        mkdirSync(`${root}/dir`);
        for (let i = 0; i < 8; i++) writeFileSync(`${root}/dir/${i}`, Buffer.alloc(1 << 20, i));
      });
      const child = await s.layer(base, (root) => {
        if (options.privileged) execFileSync("chown", ["-R", "7:8", root]);
        execFileSync("chmod", ["-R", "u=rwX,go=", root]);
      });
      const top = await s.layer(child, (root) => renameSync(`${root}/dir/3`, `${root}/three`));
      await s.read(top, (root) => {
        const { uid, mode } = statSync(`${root}/dir/5`);
        assert.deepEqual([uid, mode & 0o777], [options.privileged ? 7 : 0, 0o600]);
        assert.deepEqual(readFileSync(`${root}/dir/5`), Buffer.alloc(1 << 20, 5));
        assert.deepEqual(readFileSync(`${root}/three`), Buffer.alloc(1 << 20, 3));
      });
      for (const id of [child, top]) assert.ok((await s.driver.usage(id)).sizeBytes < 1 << 20);
    });

  scene("says what a layer takes as du does", async (s) => {
    const base = await s.layer(undefined, (root) => furnish(root, options));
    const child = await s.layer(base, (root) => {
      for (let i = 0; i < 90; i++) {
        mkdirSync(`${root}/d${i}`);
        writeFileSync(`${root}/d${i}/file`, Buffer.alloc(5000));
      }
    });
    // btrfs and xfs count blocks when they allocate them, not before.
    using opened = sys.open(s.home, O_RDONLY);
    for (const id of [base, child]) {
      await using content = await s.driver.contentSource(id);
      using tree = sys.open(content.value.layers[0] ?? "", O_RDONLY);
      for (const { fd } of [opened, tree]) sys.syncfs(fd);
      const { usage } = options;
      const du = (...words: string[]): number => {
        const directory = typeof usage === "function" ? usage(s.home, id) : "";
        return Number.parseInt(execFileSync("du", ["-s", ...words, directory], { encoding: "utf8" }), 10);
      };
      const expected =
        typeof usage === "function" ? { sizeBytes: du("-B1"), inodes: du("--inodes") } : usage.expected(s.home, id);
      const said = await s.driver.usage(id);
      const slackBytes = typeof usage === "function" ? 0 : (usage.slackBytes ?? 0);
      const isNear = Math.abs(said.sizeBytes - expected.sizeBytes) <= slackBytes;
      assert.deepEqual(said, isNear ? { ...expected, sizeBytes: said.sizeBytes } : expected);
    }
  });
}
