/** Device mapper thin pools work in this machine, made by dmsetup on loop devices and by LVM. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { umount } from "../../../src/fs/mounts.ts";
import { LoopDevices, run } from "../../support/loop-devices.ts";

const directory = mkdtempSync(join(tmpdir(), "lamella-thin-"));
after(() => rmSync(directory, { recursive: true }));
const sectorBytes = 512;
const thinSectors = (64 * 1024 * 1024) / sectorBytes;

function mount(device: string, ...options: readonly string[]): Disposable {
  run("mount", ...options, device, directory);
  return { [Symbol.dispose]: () => void umount(directory) };
}

function sectors(device: string): string {
  return run("blockdev", "--getsz", device).trim();
}

test("a pool on loop devices: thin devices, a snapshot, its own content, what is in use", () => {
  using loops = new LoopDevices();
  const data = loops.attach(512);
  const metadata = loops.attach(16);
  using dm = new MappedDevices();
  const pool = dm.create("pool", `0 ${sectors(data)} thin-pool ${metadata} ${data} 128 0 1 skip_block_zeroing`);
  run("dmsetup", "message", pool, "0", "create_thin 0");
  const base = dm.create("base", `0 ${thinSectors} thin ${pool} 0`);
  run("mkfs.ext4", "-q", base);
  {
    using _ = mount(base);
    writeFileSync(join(directory, "file"), "base");
  }
  run("dmsetup", "suspend", base);
  run("dmsetup", "message", pool, "0", "create_snap 1 0");
  run("dmsetup", "resume", base);
  const snapshot = dm.create("snap", `0 ${thinSectors} thin ${pool} 1`);
  {
    using _ = mount(snapshot, "-o", "discard");
    assert.equal(readFileSync(join(directory, "file"), "utf8"), "base");
    writeFileSync(join(directory, "file"), "snapshot");
  }
  {
    using _ = mount(base, "-o", "ro");
    assert.equal(readFileSync(join(directory, "file"), "utf8"), "base");
  }
  const [, , , transaction, meta = "", blocks = ""] = run("dmsetup", "status", pool).split(" ");
  assert.equal(transaction, "0");
  assert.match(meta, /^\d+\/4096$/);
  assert.match(blocks, /^\d+\/8192$/);
  dm.dispose("snap");
  run("dmsetup", "message", pool, "0", "delete 1");
});

test("thin_check and thin_delta read the metadata of an idle pool", () => {
  using loops = new LoopDevices();
  const data = loops.attach(128);
  const metadata = loops.attach(16);
  {
    using dm = new MappedDevices();
    const pool = dm.create("pool", `0 ${sectors(data)} thin-pool ${metadata} ${data} 128 0`);
    for (const id of [0, 1]) run("dmsetup", "message", pool, "0", `create_thin ${id}`);
    const thin = dm.create("thin", `0 ${thinSectors} thin ${pool} 0`);
    run("dd", "if=/dev/zero", `of=${thin}`, "bs=64k", "count=3", "oflag=direct");
  }
  run("thin_check", metadata);
  const delta = run("thin_delta", "--snap1", "1", "--snap2", "0", metadata);
  assert.match(delta, /<right_only begin="0" .*length="3"\/>/);
});

test("a pool made by LVM on a device of its own", () => {
  using loops = new LoopDevices();
  const device = loops.attach(512);
  run("pvcreate", "-q", device);
  run("vgcreate", "-q", "lamella-test", device);
  try {
    run("lvcreate", "-q", "--wipesignatures", "y", "-n", "thinpool", "lamella-test", "-l", "80%VG");
    run("lvcreate", "-q", "--wipesignatures", "y", "-n", "thinpoolmeta", "lamella-test", "-l", "5%VG");
    const convert = ["--thinpool", "lamella-test/thinpool", "--poolmetadata", "lamella-test/thinpoolmeta"];
    run("lvconvert", "-q", "-y", "--zero", "n", "-c", "512K", ...convert);
    run("dmsetup", "message", "/dev/mapper/lamella--test-thinpool", "0", "create_thin 0");
    assert.match(run("dmsetup", "table", "lamella--test-thinpool"), / thin-pool /);
  } finally {
    run("vgremove", "-q", "-f", "lamella-test");
    run("pvremove", "-q", device);
  }
});

/** Devices of the device mapper, removed on disposal, the last first. */
class MappedDevices implements Disposable {
  readonly #names: string[] = [];

  /** A new device with this table; its path. */
  create(name: string, table: string): string {
    run("dmsetup", "create", `lamella-${name}`, "--table", table);
    this.#names.push(name);
    return `/dev/mapper/lamella-${name}`;
  }

  dispose(name: string): void {
    run("dmsetup", "remove", "--retry", `lamella-${name}`);
    this.#names.splice(this.#names.indexOf(name), 1);
  }

  [Symbol.dispose](): void {
    for (const name of [...this.#names].reverse()) this.dispose(name);
  }
}
