/** A data root on an xfs whose directories do not tell the types of names, which newer kernels no longer mount. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { examine } from "../../../src/doctor/doctor.ts";
import { umount } from "../../../src/fs/mounts.ts";
import { LoopDevices, run } from "../../support/loop-devices.ts";

test("xfs with ftype=0: d-type-missing, and overlayfs tried on it", async () => {
  using loops = new LoopDevices();
  const device = loops.attach(320);
  run("mkfs.xfs", "-q", "-m", "crc=0", "-n", "ftype=0", device);
  const root = mkdtempSync(join(tmpdir(), "lamella-doctor-"));
  run("mount", device, root);
  try {
    mkdirSync(join(root, "image/overlay2/layerdb/sha256", "a".repeat(64)), { recursive: true });
    const { findings, facts } = await examine({ uid: 0, env: {}, onlyRoots: true, roots: [root] });
    const found = findings.find(({ id }) => id === "d-type-missing");
    assert.equal(found?.severity, "error");
    assert.match(found.evidence[0]?.said ?? "", /types are missing \(xfs\)/);
    assert.equal(facts.roots[root]?.mountType, "xfs");
    assert.ok(facts.roots[root]?.trial);
  } finally {
    umount(root);
    rmdirSync(root);
  }
});
