/**
 * Project quotas of xfs and ext4 work in this machine. On ext4 they bind only who lacks CAP_SYS_RESOURCE, as programs in
 * containers do.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { umount } from "../../../src/fs/mounts.ts";
import { LoopDevices, run } from "../../support/loop-devices.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-quota-"));
after(() => rmSync(directory, { recursive: true }));
const limitMiB = 4;

function mount(device: string): Disposable {
  run("mount", "-o", "prjquota", device, directory);
  return { [Symbol.dispose]: () => void umount(directory) };
}

/** Writing over the limit fails in the project, for this reason, and nowhere else. */
function assertLimited(reason: RegExp): void {
  const write = (name: string): string =>
    run(
      "setpriv",
      "--bounding-set",
      "-sys_resource",
      "dd",
      "if=/dev/zero",
      `of=${join(directory, name)}`,
      "bs=1M",
      `count=${limitMiB + 1}`,
    );
  assert.throws(() => write("limited/file"), reason);
  write("file");
}

test("xfs", () => {
  using loops = new LoopDevices();
  const device = loops.attach(512);
  run("mkfs.xfs", "-q", device);
  using _ = mount(device);
  const limited = join(directory, "limited");
  mkdirSync(limited);
  run("xfs_quota", "-x", "-c", `project -s -p ${limited} 7`, directory);
  run("xfs_quota", "-x", "-c", `limit -p bhard=${limitMiB}m 7`, directory);
  assertLimited(/No space left/);
  assert.match(
    run("xfs_quota", "-x", "-c", "report -p -N -b", directory),
    new RegExp(`#7 +\\d+ +0 +${limitMiB * 1024}`),
  );
});

test("ext4", () => {
  using loops = new LoopDevices();
  const device = loops.attach(128);
  run("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", device);
  using _ = mount(device);
  const limited = join(directory, "limited");
  mkdirSync(limited);
  run("chattr", "-p", "7", "+P", limited);
  run("setquota", "-P", "7", "0", `${limitMiB * 1024}`, "0", "0", directory);
  assertLimited(/[Qq]uota exceeded/);
  assert.match(run("repquota", "-P", "-n", directory), new RegExp(`^#7 .* ${limitMiB * 1024} `, "m"));
});
