import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import * as C from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import { takeClockStamp } from "./clock-stamp.ts";
import { writeManifestInBackground } from "./tree-manifest.ts";
import { loadManifest } from "./tree-manifest-read.ts";
import { writeManifest } from "./tree-manifest-write.ts";

const home = fs.mkdtempSync(join(tmpdir(), "lamella-manifest-"));
after(() => fs.rmSync(home, { recursive: true }));

/** A tree, and a stamp that is safely after all of it. */
const tree = join(home, "tree");
const names = ["a", "b b", "\xff\xfe", "\xc3\xa9", "z".repeat(255), "new\nline"];
fs.mkdirSync(tree);
for (const directory of ["", "sub", `sub/${"d".repeat(200)}`, "empty"]) {
  fs.mkdirSync(join(tree, directory), { recursive: true });
  if (directory === "empty") continue;
  for (const name of names) fs.writeFileSync(Buffer.from(join(tree, directory, name), "latin1"), "");
}
fs.symlinkSync("a", join(tree, "link"));
const late = { ...takeClockStamp(home), sec: Math.floor(Date.now() / 1000) + 100 };

function stat(path: string): sys.Stat {
  return sys.statx(C.AT_FDCWD, join(tree, path));
}

describe("the manifest of a tree", () => {
  it("knows every name, in any order", () => {
    const path = join(home, "all");
    writeManifest(tree, path, { clock: late });
    const manifest = loadManifest(path);
    assert.ok(manifest);
    assert.deepEqual(manifest.clock, late);
    assert.equal(manifest.hasRoot(stat("")), true);
    for (const directory of ["", "sub", `sub/${"d".repeat(200)}`]) {
      const inside = sys.readdir(sys.open(join(tree, directory), C.O_RDONLY).release()).map((entry) => entry.name);
      for (const order of [inside, inside.toReversed(), [...inside, ...inside]]) {
        manifest.enter(directory);
        for (const name of order) {
          const own = stat(directory === "" ? name : `${directory}/${name}`);
          assert.equal(manifest.has(name, own), true, name);
          assert.equal(manifest.has(name, { ...own, ctimeNsec: own.ctimeNsec ^ 1 }), false);
          assert.equal(manifest.has(name, { ...own, ctimeSec: own.ctimeSec - 2 ** 32 }), false);
          assert.equal(manifest.has(name, { ...own, inoLow: own.inoLow ^ 1 }), false);
          assert.equal(manifest.has(name, { ...own, mode: C.S_IFIFO }), false);
          assert.equal(manifest.inode(name), `${own.inoHigh}:${own.inoLow}`);
        }
        assert.equal(manifest.has("no", stat("a")), false);
      }
    }
    for (const nowhere of ["empty", "su", "sub/a", "no"]) {
      manifest.enter(nowhere);
      assert.equal(manifest.has("a", stat("a")), false);
    }
  });

  it("holds no change time that a change right after could have", () => {
    const path = join(home, "racy");
    const clock = takeClockStamp(home);
    fs.writeFileSync(join(tree, "a"), "now");
    writeManifest(tree, path, { clock });
    const manifest = loadManifest(path);
    manifest?.enter("");
    assert.equal(manifest?.has("a", stat("a")), false);
    assert.ok(manifest?.inode("a"));
  });

  it("is written in a thread, too", async () => {
    const path = join(home, "background");
    await writeManifestInBackground(tree, path, { clock: late });
    writeManifest(tree, join(home, "foreground"), { clock: late });
    assert.deepEqual(fs.readFileSync(path), fs.readFileSync(join(home, "foreground")));
    await assert.rejects(writeManifestInBackground(join(home, "none"), path), { code: "ENOENT" });
    await assert.rejects(writeManifestInBackground(tree, path, { signal: AbortSignal.abort() }), { code: "ABORTED" });
  });

  it("is none when a byte of it is missing or wrong", () => {
    const path = join(home, "whole");
    writeManifest(tree, path, { clock: late });
    const bytes = fs.readFileSync(path);
    const broken = join(home, "broken");
    for (let at = 0; at < bytes.length; at += 7) {
      fs.writeFileSync(broken, bytes.subarray(0, at));
      assert.equal(loadManifest(broken), undefined, `cut at ${at}`);
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      fs.writeFileSync(broken, flipped);
      assert.equal(loadManifest(broken), undefined, `flipped at ${at}`);
    }
    assert.equal(loadManifest(join(home, "none")), undefined);
  });
});
