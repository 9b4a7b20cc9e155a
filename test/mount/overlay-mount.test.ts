/** Overlay mounts by every way into the kernel: many layers, long paths, odd names, and what errors say. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { mountView } from "../../src/drivers/mount-view.ts";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { bindMount, isMountPoint, mountAt, remountReadOnly, umount } from "../../src/fs/mounts.ts";
import {
  kernelAtLeast,
  type MountApi,
  mountOverlay,
  type OverlayMount,
  withTrialOverlay,
} from "../../src/fs/overlay-mount.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { O_RDONLY } from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { privateMounts } from "../support/overlay-lab.ts";

const apis: readonly MountApi[] = kernelAtLeast(6, 8) ? ["auto", "fsconfig", "mount"] : ["auto", "mount"];

interface Bench extends Disposable {
  readonly path: string;
  /** Makes layers, each with a file of its number, the uppermost first. */
  readonly layers: (count: number, below: string) => string[];
}

function bench(t: TestContext): Bench | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  const path = mkdtempSync(join(tmpdir(), "lamella-overlay-mount-"));
  mkdirSync(join(path, "merged"));
  return {
    path,
    layers: (count, below) =>
      Array.from({ length: count }, (_, i) => {
        const layer = join(path, below, String(i));
        mkdirSync(layer, { recursive: true });
        writeFileSync(join(layer, `file${i}`), String(i));
        return layer;
      }),
    [Symbol.dispose]: () => {
      umount(join(path, "merged"));
      rmSync(path, { recursive: true });
    },
  };
}

function readOnly(lowers: readonly string[]): OverlayMount {
  return { lowers: lowers.map(bytesOfText), upper: undefined, work: undefined, options: ["index=off"] };
}

for (const api of apis) {
  test(`500 layers by ${api}, and no working directory moved`, (t) => {
    using at = bench(t);
    if (!at) return;
    const merged = join(at.path, "merged");
    const before = process.cwd();
    mountOverlay(readOnly(at.layers(500, "layers")), merged, api);
    assert.equal(readdirSync(merged).length, 500);
    assert.equal(readFileSync(join(merged, "file499"), "utf8"), "499");
    assert.equal(process.cwd(), before);
    assert.equal(readdirSync(".").includes("package.json"), true);
    assert.ok(mountAt(merged)?.options.includes("ro"));
  });

  test(`layers, upper and work with long paths and odd names by ${api}`, (t) => {
    using at = bench(t);
    if (!at) return;
    const merged = join(at.path, "merged");
    for (const odd of ["a:b,c", "back\\slash", "blank tab\t=", "ümlaut", `${"long/".repeat(60)}${"x".repeat(200)}`]) {
      const lowers = at.layers(3, odd);
      const upper = join(at.path, odd, "upper");
      const work = join(at.path, odd, "work");
      mkdirSync(upper);
      mkdirSync(work);
      mountOverlay({ ...readOnly(lowers), upper: bytesOfText(upper), work: bytesOfText(work) }, merged, api);
      assert.deepEqual(readdirSync(merged).sort(), ["file0", "file1", "file2"], odd);
      writeFileSync(join(merged, "new"), odd);
      assert.equal(umount(merged), "unmounted");
      assert.equal(readFileSync(join(upper, "new"), "utf8"), odd);
    }
  });
}

test("an error names what the kernel says, or where it says it", (t) => {
  using at = bench(t);
  if (!at) return;
  const merged = join(at.path, "merged");
  const failure = (overlay: OverlayMount, api: MountApi = "auto"): LamellaError => {
    try {
      mountOverlay(overlay, merged, api);
    } catch (error) {
      if (error instanceof LamellaError) return error;
      throw error;
    }
    return assert.fail("mounted");
  };
  const lowers = at.layers(501, "layers");
  const conflict = { ...readOnly(lowers.slice(0, 2)), options: ["redirect_dir=on", "userxattr"] };
  if (kernelAtLeast(6, 8)) {
    assert.match(failure(readOnly(lowers)).message, /limit is 500/);
    assert.match(failure(conflict).message, /conflicting options.*userxattr/);
    assert.match(failure({ ...conflict, options: ["no_such_option"] }).message, /no_such_option/);
  }
  const byData = failure(conflict, "mount");
  const word = kernelAtLeast(5, 11) ? "conflicting options" : "unrecognized mount option";
  assert.match(byData.message, new RegExp(`${word}.*userxattr.*EINVAL`));
  assert.match(byData.hint ?? "", /dmesg/);
  assert.equal(failure(readOnly([join(at.path, "none"), join(at.path, "none2")])).code, "ENOENT");
  assert.throws(
    () => mountView({ kind: "overlay", ...readOnly([join(at.path, "none"), lowers[0] ?? ""]), options: none }, merged),
    (error) => error instanceof LamellaError && error.code === "LAYER_MISSING",
  );
  assert.equal(isMountPoint(merged), false);
});

const none = { redirectDir: undefined, metacopy: undefined, index: undefined, userxattr: false };

test("a trial overlay is mounted nowhere", (t) => {
  using at = bench(t);
  if (!at) return;
  const merged = join(at.path, "merged");
  withTrialOverlay(readOnly(at.layers(2, "layers")), merged, (rootFd) => {
    using root = new sys.OwnedFd(sys.openat(rootFd, ".", O_RDONLY));
    assert.equal(sys.readdir(root.fd).length, 2);
    assert.equal(isMountPoint(merged), false);
  });
});

test("binds, read-only too, and unmounts what is busy", (t) => {
  using at = bench(t);
  if (!at) return;
  const merged = join(at.path, "merged");
  const [source = ""] = at.layers(1, "layers");
  assert.equal(isMountPoint(merged), false);
  assert.equal(umount(merged), "absent");
  assert.equal(umount(join(at.path, "none")), "absent");
  bindMount(source, merged, { readOnly: true });
  assert.equal(isMountPoint(merged), true);
  assert.throws(() => writeFileSync(join(merged, "x"), ""), { code: "EROFS" });
  writeFileSync(join(source, "x"), "");
  assert.equal(umount(merged), "unmounted");
  bindMount(source, merged);
  writeFileSync(join(merged, "y"), "");
  remountReadOnly(merged);
  assert.throws(() => writeFileSync(join(merged, "y"), ""), { code: "EROFS" });
  using busy = sys.open(join(merged, "y"), O_RDONLY);
  assert.equal(umount(merged, { triesWhileBusy: 2 }), "detached");
  assert.equal(isMountPoint(merged), false);
  assert.equal(sys.fstat(busy.fd).size, 0);
});
