/**
 * The central property: whatever is done in an overlay mount, *native diff ≡ naive diff ≡ what was done*.
 *
 * Random operations change one to five layers of a real mount, under every combination of redirect_dir and metacopy as root
 * and with userxattr in a user namespace. After each layer the native diff of the upper, as a layer tar, is applied in two
 * ways: carried out on a plain copy of the parent, and as an overlay directory on top of the parent's. The naive diff of the
 * two trees is applied likewise. All results must be the tree that the mount shows. A failing sequence shrinks and prints
 * itself.
 *
 * Hard links are compared among the names of the stream: a name that the layer does not touch stays linked to what it was
 * linked to below, which no overlay and no layer can change.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import type { ApplyTarget } from "../../src/diff/source.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import { UpperDiffer } from "../../src/diff/upper-differ.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { applyLayerTar, layerTarOf } from "../support/layer-tars.ts";
import { inUserNamespace, type LabOptions, OverlayLab, privateMounts } from "../support/overlay-lab.ts";
import { type Operation, operationSequence, performAll, plantedTree } from "../support/random-operations.ts";
import { differences, snapshot } from "../support/tree-snapshot.ts";

/** Sequences a combination of options; all combinations together are thousands of layers. */
const RUNS = Number(process.env.LAMELLA_TEST_RUNS ?? 500);

/** Runs one sequence; throws with what differs. */
function check(layers: readonly (readonly Operation[])[], options: LabOptions): void {
  using lab = new OverlayLab(options);
  lab.base(plantedTree);
  const directory = (name: string): string => {
    const path = join(lab.directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  // Three copies of the tree so far: by native diffs carried out, by naive diffs carried out, by native diffs as overlay layers.
  const native = directory("native");
  const naive = directory("naive");
  const before = directory("before");
  const spill = join(lab.directory, "spill");
  const applied: string[] = [directory("applied-base")];
  const { prefix } = lab;
  const inPlace = (root: string): ApplyTarget => ({ whiteouts: "remove", root, lowers: [], prefix });
  const planted = layerTarOf(
    new UpperDiffer({ kind: "upper", upper: lab.layers[0] ?? "", lowers: [], prefix }).changes(),
  );
  for (const root of [native, naive, before, ...applied]) applyLayerTar(inPlace(root), planted, spill);
  for (const [index, operations] of layers.entries()) {
    lab.mount();
    performAll(lab.merged, operations);
    lab.remount();
    const done = snapshot(lab.merged);

    const nativeTar = layerTarOf(
      new UpperDiffer({ kind: "upper", upper: lab.upper, lowers: lab.layers, prefix }).changes(),
    );
    const naiveTar = layerTarOf(
      new TreesDiffer({ kind: "trees", parent: before, tree: lab.merged }, { threads: 1 }).changes(),
    );
    applyLayerTar(inPlace(native), nativeTar, spill);
    assert.deepEqual(
      differences(done, snapshot(native), nativeTar.objects),
      [],
      `layer ${index}: native diff, carried out`,
    );
    applyLayerTar(inPlace(naive), naiveTar, spill);
    assert.deepEqual(
      differences(done, snapshot(naive), naiveTar.objects),
      [],
      `layer ${index}: naive diff, carried out`,
    );

    const layer = directory(`applied${index}`);
    applyLayerTar({ whiteouts: "overlay", root: layer, lowers: applied, prefix }, nativeTar, spill);
    applied.unshift(layer);
    lab.unmount();
    const shown = options.userxattr ? "userxattr" : "redirect_dir=on,metacopy=on";
    sys.mount("overlay", lab.merged, "overlay", C.MS_RDONLY, `index=off,${shown},lowerdir=${applied.join(":")}`);
    try {
      assert.deepEqual(
        differences(done, snapshot(lab.merged), nativeTar.objects),
        [],
        `layer ${index}: native diff, as a layer`,
      );
    } finally {
      sys.umount2(lab.merged, C.MNT_DETACH);
    }
    // The naive diff compares with the parent's tree, which is the tree just checked.
    applyLayerTar(inPlace(before), nativeTar, spill);
    lab.layers.unshift(lab.upper);
  }
}

function property(name: string, options: LabOptions): void {
  test(name, (t) => {
    const ready = privateMounts();
    if (ready !== true) return t.skip(ready);
    fc.assert(
      fc.property(operationSequence, fc.nat(9), (layers, tenth) => check(layers, { ...options, tmpfs: tenth > 0 })),
      { numRuns: RUNS, verbose: 1 },
    );
  });
}

if (process.getuid?.() === 0 && !inUserNamespace()) {
  for (const redirectDir of [false, true]) {
    for (const metacopy of redirectDir ? [false, true] : [false]) {
      property(`native ≡ naive ≡ done: redirect_dir=${redirectDir}, metacopy=${metacopy}`, { redirectDir, metacopy });
    }
  }
  test("the same in a user namespace with userxattr", (t) => {
    const self = fileURLToPath(import.meta.url);
    const register = fileURLToPath(new URL("../register.mjs", import.meta.url));
    try {
      execFileSync("unshare", ["--user", "--map-root-user", "--mount", "true"], { stdio: "ignore" });
    } catch {
      return t.skip("user namespaces are not available");
    }
    const env = { ...process.env, NODE_TEST_CONTEXT: undefined };
    execFileSync("unshare", ["--user", "--map-root-user", "--mount", process.execPath, "--import", register, self], {
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
  });
} else {
  property("native ≡ naive ≡ done: userxattr", { userxattr: true });
}
