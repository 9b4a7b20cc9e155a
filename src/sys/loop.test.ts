import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { blockDeviceSize } from "./block-device.ts";
import { AT_FDCWD, O_RDONLY } from "./constants.ts";
import { attachLoop, encodeLoopConfig, isLoopOver } from "./loop.ts";
import { open, statx } from "./syscalls.ts";

test("a loop device's configuration has its fields where struct loop_config has them", () => {
  const config = encodeLoopConfig(5, "/data");
  assert.equal(config.length, 304);
  assert.equal(config.readUInt32LE(0), 5);
  assert.equal(config.readUInt32LE(8 + 52), 4);
  assert.equal(config.toString("latin1", 8 + 56, 8 + 62), "/data\0");
});

test("a loop device is over its file, and goes when it is let go", (t) => {
  if (process.getuid?.() !== 0 || !existsSync("/dev/loop-control")) return t.skip("loop devices need root");
  const directory = mkdtempSync(join(tmpdir(), "lamella-loop-"));
  try {
    const [file, other] = [join(directory, "file"), join(directory, "other")];
    writeFileSync(file, "");
    truncateSync(file, 3 << 20);
    writeFileSync(other, "");
    const loop = attachLoop(file);
    {
      using opened = open(loop.path, O_RDONLY);
      assert.equal(blockDeviceSize(opened.fd, loop.path), 3 << 20);
    }
    assert.equal(isLoopOver(loop, statx(AT_FDCWD, file)), true);
    assert.equal(isLoopOver(loop, statx(AT_FDCWD, other)), false);
    loop[Symbol.dispose]();
    assert.equal(isLoopOver(loop, statx(AT_FDCWD, file)), false);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
