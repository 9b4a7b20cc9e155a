/**
 * Diffs by what is known of two trees, under random operations: *by the hint ≡ two trees ≡ what was done*.
 *
 * - clone: each layer is a real btrfs snapshot of the one before, changed in place;
 * - manifest: each layer is a copy of the one before, changed in place; its manifest was taken at once, or later;
 * - inode: the operations go through a real overlay on the parent's tree, the layer is applied to a tree of hard links;
 * - candidates: of each of those, what somebody who watched would report, and some names for nothing.
 *
 * The stream by a hint must be the very stream that comparing both trees whole gives, and that, applied to a copy of the
 * parent's tree, must give the layer's, hard links and all.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import type { ApplyTarget, TreesHint } from "../../src/diff/source.ts";
import { writeManifest } from "../../src/diff/tree-manifest-write.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import { UpperDiffer } from "../../src/diff/upper-differ.ts";
import { copyTree } from "../../src/fs/copy-tree.ts";
import { TempDir } from "../../src/fs/temp-dir.ts";
import { candidatesOf } from "../support/candidates.ts";
import { CloneLab, settle } from "../support/clone-lab.ts";
import { applyLayerTar, type LayerTar, layerTarOf } from "../support/layer-tars.ts";
import { OverlayLab, privateMounts, sh, short } from "../support/overlay-lab.ts";
import { type Operation, operation, performAll, plantedTree } from "../support/random-operations.ts";
import { differences, snapshot } from "../support/tree-snapshot.ts";

/** Sequences for each kind of hint. */
const RUNS = 150;

const inPlace = (root: string): ApplyTarget => ({
  whiteouts: "remove",
  root,
  lowers: [],
  prefix: "trusted.overlay.",
});

function streamOf(parent: string, tree: string, hint?: TreesHint): string[] {
  const differ = new TreesDiffer({ kind: "trees", parent, tree, hint }, { threads: 1 });
  const stream = [...differ.changes()].map(short);
  assert.equal(differ.doubt, undefined);
  return stream;
}

/** Checks one layer. `scratch`: a path for a copy. */
function check(parent: string, tree: string, hint: TreesHint, scratch: string): void {
  const whole = streamOf(parent, tree);
  assert.deepEqual(streamOf(parent, tree, hint), whole, hint.kind);
  const [before, now] = [snapshot(parent), snapshot(tree)];
  const paths = [...candidatesOf(before, now), "a/b", "no/such", "c"];
  for (const subtrees of [[], ["a"], ["b/c", "a/a", ""]])
    assert.deepEqual(streamOf(parent, tree, { kind: "candidates", paths, subtrees }), whole, `candidates, ${subtrees}`);
  copyTree(parent, scratch);
  const tar: LayerTar = layerTarOf(new TreesDiffer({ kind: "trees", parent, tree, hint }, { threads: 1 }).changes());
  applyLayerTar(inPlace(scratch), tar, `${scratch}.spill`);
  assert.deepEqual(differences(now, snapshot(scratch), [...now.inodes.keys()]), [], "applied");
}

type Layers = readonly (readonly Operation[])[];

/** Runs sequences. `settles`: lets time pass before each layer, so that what the ones before did counts as old. */
function property(name: string, run: (layers: Layers, settles: boolean) => void): void {
  test(name, (t) => {
    const ready = privateMounts();
    if (ready !== true) return t.skip(ready);
    const layers = fc.array(fc.array(operation, { minLength: 1, maxLength: 15 }), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(layers, fc.boolean(), (sequence, settles) => run(sequence, settles)),
      { numRuns: RUNS, verbose: 1 },
    );
  });
}

let clones: CloneLab | undefined;
after(() => clones?.[Symbol.dispose]());

property("clone ≡ two trees ≡ done", (layers, settles) => {
  if (clones === undefined) {
    clones = new CloneLab("btrfs");
    sh(plantedTree, clones.tree);
  }
  clones.rewind();
  using scratch = new TempDir(clones.directory, "scratch-");
  for (const [index, operations] of layers.entries()) {
    if (settles) settle();
    const { parent, tree, clock } = clones.clone();
    performAll(tree, operations);
    check(parent, tree, { kind: "clone", clock }, join(scratch.path, String(index)));
  }
});

property("manifest ≡ two trees ≡ done", (layers, settles) => {
  using home = new TempDir(tmpdir(), "lamella-manifests-");
  let parent = join(home.path, "base");
  mkdirSync(parent);
  sh(plantedTree, parent);
  for (const [index, operations] of layers.entries()) {
    const tree = join(home.path, String(index));
    copyTree(parent, tree);
    if (settles) settle();
    const path = `${tree}.manifest`;
    writeManifest(tree, path);
    performAll(tree, operations);
    check(parent, tree, { kind: "manifest", path }, `${tree}.applied`);
    parent = tree;
  }
});

property("inode ≡ two trees ≡ done", (layers, redirectDir) => {
  using lab = new OverlayLab({ redirectDir, tmpfs: true });
  let parent = join(lab.directory, "base");
  mkdirSync(parent);
  sh(plantedTree, parent);
  for (const [index, operations] of layers.entries()) {
    lab.layers = [parent];
    lab.mount();
    performAll(lab.merged, operations);
    lab.remount();
    const [before, done] = [snapshot(parent), snapshot(lab.merged)];
    const { upper, prefix } = lab;
    const tar = layerTarOf(new UpperDiffer({ kind: "upper", upper, lowers: [parent], prefix }).changes());
    lab.unmount();
    const tree = join(lab.directory, String(index));
    execFileSync("cp", ["-al", parent, tree]);
    applyLayerTar(inPlace(tree), tar, `${tree}.spill`);
    assert.deepEqual(differences(before, snapshot(parent), [...before.inodes.keys()]), [], "the parent is as it was");
    assert.deepEqual(differences(done, snapshot(tree), tar.objects), [], "the layer");
    check(parent, tree, { kind: "inode" }, `${tree}.applied`);
    parent = tree;
  }
});
