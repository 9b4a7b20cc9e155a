/** What mounting writes to ext4 and xfs, by real file systems: images that are mounted and unmounted, and compared byte by byte. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { differsOnlyIn, housekeepingOf } from "../../src/drivers/devicemapper/housekeeping.ts";
import { parseSuperblock } from "../../src/drivers/devicemapper/superblock.ts";
import type { BlockDifference } from "../../src/drivers/devicemapper/thin-metadata.ts";
import { umount } from "../../src/fs/mounts.ts";
import { privateMounts } from "../support/overlay-lab.ts";

const BLOCK = 65536;
const directory = mkdtempSync(join(tmpdir(), "lamella-housekeeping-"));
const mnt = join(directory, "mnt");
mkdirSync(mnt);
after(() => {
  umount(mnt);
  rmSync(directory, { recursive: true });
});

function readBlock(image: string, block: number): Buffer {
  const fd = openSync(image, "r");
  try {
    const bytes = Buffer.alloc(BLOCK);
    readSync(fd, bytes, 0, BLOCK, block * BLOCK);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** True when the image differs from the one it was copied from by nothing but what mounting writes. */
function isUnchanged(origin: string, image: string): boolean {
  const [a, b] = [readFileSync(origin), readFileSync(image)];
  const differences: BlockDifference[] = [];
  for (let block = 0; block * BLOCK < a.length; block++)
    if (!a.subarray(block * BLOCK, (block + 1) * BLOCK).equals(b.subarray(block * BLOCK, (block + 1) * BLOCK)))
      differences.push({ block, data: block, originData: 1e6 + block });
  const stretches = housekeepingOf(readBlock(image, 0));
  assert.ok(stretches !== undefined);
  const read = (block: number): Buffer => (block >= 1e6 ? readBlock(origin, block - 1e6) : readBlock(image, block));
  return differsOnlyIn(stretches, { differences, blockBytes: BLOCK, most: 4 }, read);
}

/** mkfs.xfs makes less than 300 MiB for its own tests alone, which these variables tell it by. */
const smallXfs = { TEST_DIR: "1", TEST_DEV: "1", QA_CHECK_FS: "1" };

const makers = {
  ext4: ["mkfs.ext4", "-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
  "ext4 with blocks of 1k": ["mkfs.ext4", "-q", "-b", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
  xfs: ["mkfs.xfs", "-q"],
} as const;

for (const [name, [program, ...args]] of Object.entries(makers))
  test(`${name}: tells a mount from a change`, (t) => {
    const mounts = privateMounts();
    if (mounts !== true) return t.skip(mounts);
    const type = name.split(" ")[0] ?? "";
    const [origin, image] = [join(directory, `${type}-origin`), join(directory, `${type}-image`)];
    const mount = (file: string, ...options: string[]): void => {
      execFileSync("mount", ["-t", type, "-o", ["loop", ...options].join(","), file, mnt]);
    };
    execFileSync("truncate", ["-s", "64M", origin]);
    execFileSync(program, [...args, origin], { env: { ...process.env, ...smallXfs } });
    const blkid = execFileSync("blkid", ["-s", "UUID", "-o", "value", origin], { encoding: "utf8" }).trim();
    const before = parseSuperblock(readBlock(origin, 0));
    assert.deepEqual(
      { ...before, inodePercent: 0, usedInodes: 0 },
      {
        ...{ fileSystem: type, uuid: blkid, blockBytes: name.endsWith("1k") ? 1024 : 4096 },
        ...{ inodePercent: 0, usedInodes: 0 },
      },
    );
    mount(origin);
    for (let i = 0; i < 20; i++) writeFileSync(`${mnt}/file-${i}`, `content ${i}`);
    umount(mnt);
    assert.equal(parseSuperblock(readBlock(origin, 0))?.usedInodes, (before?.usedInodes ?? 0) + 20);
    const after = (what: () => void, ...options: string[]): boolean => {
      execFileSync("cp", ["--sparse=always", origin, image]);
      mount(image, ...options);
      what();
      umount(mnt);
      return isUnchanged(origin, image);
    };
    assert.equal(
      after(() => undefined),
      true,
      "mounted and unmounted",
    );
    assert.equal(
      after(() => void readFileSync(`${mnt}/file-7`), "noatime"),
      true,
      "a file was read",
    );
    assert.equal(
      after(() => void readFileSync(`${mnt}/file-7`), "strictatime"),
      false,
      "an access time was set",
    );
    const changes = {
      chmod: ["chmod", "600", `${mnt}/file-3`],
      touch: ["touch", `${mnt}/file-3`],
      "a new name": ["ln", `${mnt}/file-3`, `${mnt}/other`],
      "a name less": ["rm", `${mnt}/file-3`],
      attribute: ["setfattr", "-n", "user.a", "-v", "b", `${mnt}/file-3`],
      "content in place": ["dd", "if=/dev/zero", `of=${mnt}/file-3`, "bs=1", "count=1", "conv=notrunc", "status=none"],
    };
    for (const [what, [command = "", ...words]] of Object.entries(changes))
      assert.equal(
        after(() => void execFileSync(command, words)),
        false,
        what,
      );
    const undone = (): void => {
      writeFileSync(`${mnt}/new`, "x");
      rmSync(`${mnt}/new`);
    };
    assert.equal(after(undone), false, "a file came and went: the directory's times tell");
  });

test("nothing is known of what is neither ext4 nor xfs, or whose journal is to be replayed", () => {
  assert.equal(housekeepingOf(Buffer.alloc(4096)), undefined);
  assert.equal(housekeepingOf(Buffer.alloc(512)), undefined);
  const image = join(directory, "dirty");
  execFileSync("truncate", ["-s", "32M", image]);
  execFileSync("mkfs.ext4", ["-q", image]);
  const superblock = readBlock(image, 0);
  assert.notEqual(housekeepingOf(superblock), undefined);
  superblock.writeUInt32LE(superblock.readUInt32LE(1024 + 0x60) | 4, 1024 + 0x60);
  assert.equal(housekeepingOf(superblock), undefined);
});
