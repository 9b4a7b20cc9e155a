/**
 * Diffs by what is known of two trees, on real clones, copies and hard links: the stream is the one that comparing both trees
 * whole gives, whatever was done. For each kind of hint, the changes that could fool it.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { TreesSource } from "../../src/diff/source.ts";
import { writeManifest } from "../../src/diff/tree-manifest-write.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import { copyTree } from "../../src/fs/copy-tree.ts";
import { candidatesOf } from "../support/candidates.ts";
import { CloneLab, settle } from "../support/clone-lab.ts";
import { applyLayerTar, layerTarOf } from "../support/layer-tars.ts";
import { privateMounts, sh, short } from "../support/overlay-lab.ts";
import { performAll } from "../support/random-operations.ts";
import { differences, snapshot, type TreeSnapshot } from "../support/tree-snapshot.ts";

const base = `
  mkdir -p d/e deep/a/b/c full left/n right/n; echo l >left/n/x; echo r >right/n/x; echo l >left/y; ln right/n/x right/y; echo one >d/f; echo two >d/e/g; echo uno >d/one; echo due >d/two
  echo three >h; ln h i; ln h d/j; ln h deep/a/b/j; echo solo >d/alone; ln d/alone deep/a/alone
  echo x >deep/a/b/c/x; echo y >deep/y; ln -s f d/link; mkfifo d/fifo; mknod d/device c 1 3
  for n in 1 2 3 4 5 6 7 8; do echo $n >full/$n; done
  touch -d 2020-01-01 d/* deep/a/* h full/* */n/x */y; touch -d 2020-01-01 d/e d deep left/n right/n left right`;

type Change = string | ((tree: string) => void);

const keeping = (path: string, change: string): string =>
  `touch -r ${path} ../time; ${change}; touch -r ../time ${path}; rm ../time`;

/** What is done to the tree, and the stream it must give: without one, that of comparing both trees whole. */
const cases: readonly (readonly [name: string, change: Change, expected?: readonly string[]])[] = [
  ["nothing", "true", []],
  ["same size, same time", keeping("d/f", "printf uno | dd of=d/f conv=notrunc status=none"), ["M d/", "M d/f"]],
  ["other size, same time", keeping("d/f", "echo more >>d/f"), ["M d/", "M d/f"]],
  ["rewritten as it was", keeping("d/f", "echo one >d/f"), []],
  ["mode", "chmod 600 d/e/g", ["M d/", "M d/e/", "M d/e/g"]],
  ["mode there and back", "chmod 600 d/e/g; chmod 644 d/e/g", []],
  ["owner of a symbolic link", "chown -h 7 d/link", ["M d/", "M d/link -> f"]],
  ["attribute", "setfattr -n trusted.x -v 1 d/f", ["M d/", "M d/f"]],
  ["ACL", (tree) => performAll(tree, [{ op: "acl", path: "d/e/g", uid: 12 }]), ["M d/", "M d/e/", "M d/e/g"]],
  ["ACL of a directory", (tree) => performAll(tree, [{ op: "acl", path: "d/e", uid: 12 }]), ["M d/", "M d/e/"]],
  ["time in the future", "touch -d 2100-01-01 d/f", ["M d/", "M d/f"]],
  ["time of a directory", "touch -d 2100-01-01 deep/a", ["M deep/", "M deep/a/"]],
  ["root's mode", "chmod 700 .", ["M ./"]],
  [
    "root's mode and a file far below",
    "chmod 700 .; chmod 600 deep/a/b/c/x",
    ["M ./", "M deep/", "M deep/a/", "M deep/a/b/", "M deep/a/b/c/", "M deep/a/b/c/x"],
  ],
  ["new file", keeping("d", "echo n >d/n; touch -d 2020-01-01 d/n"), ["M d/", "A d/n"]],
  ["new directory", "mkdir -p n/m; echo n >n/m/n", ["A n/", "A n/m/", "A n/m/n"]],
  ["removed file", keeping("d", "rm d/f"), ["M d/", "D d/f"]],
  ["removed directory", "rm -r deep/a/b/c", ["M deep/", "M deep/a/", "M deep/a/b/", "D deep/a/b/c"]],
  ["removed and made again, the same", keeping("d", "rm d/f; echo one >d/f; touch -d 2020-01-01 d/f"), []],
  [
    "removed and made again, other content",
    keeping("d", "rm d/f; echo uno >d/f; touch -d 2020-01-01 d/f"),
    ["M d/", "M d/f"],
  ],
  ["removed and made again, another type", keeping("d", "rm d/f; ln -s x d/f"), ["M d/", "M d/f -> x"]],
  ["file becomes directory", keeping("d", "rm d/f; mkdir d/f; echo >d/f/n"), ["M d/", "M d/f/", "A d/f/n"]],
  ["directory becomes file", keeping("d", "rm -r d/e; echo >d/e"), ["M d/", "M d/e"]],
  [
    "file becomes socket",
    (tree) => {
      sh(keeping("d", "rm d/f; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/f\")'"), tree);
    },
    ["M d/", "D d/f"],
  ],
  ["renamed file", keeping("d", "mv d/f d/z"), ["M d/", "D d/f", "A d/z"]],
  ["renamed onto another", keeping("d", "mv d/one d/two"), ["M d/", "D d/one", "M d/two"]],
  [
    "two files of one size and time exchanged",
    keeping("d", "mv d/one d/t; mv d/two d/one; mv d/t d/two"),
    ["M d/", "M d/one", "M d/two"],
  ],
  [
    "renamed directory",
    "mv deep/a/b deep/a/z",
    [
      "M d/",
      "M d/j",
      "M deep/",
      "M deep/a/",
      "D deep/a/b",
      "A deep/a/z/",
      "A deep/a/z/c/",
      "A deep/a/z/c/x",
      "A deep/a/z/j = d/j",
      "M h = d/j",
      "M i = d/j",
    ],
  ],
  ["directory renamed, a file renamed in it", "mv deep/a deep/n; mv deep/n/b/c/x deep/n/b/c/z"],
  ["directory renamed and made again", "mv d/e d/n; mkdir d/e; echo two >d/e/g"],
  ["directory moved into a new one of its name", "mv deep t; mkdir deep; mv t/a deep/a; mv t/y deep/y; rmdir t"],
  ["directories exchanged", (tree) => performAll(tree, [{ op: "exchange", path: "d", to: "deep" }])],
  [
    "directories of the same names, sizes and times exchanged",
    (tree) => performAll(tree, [{ op: "exchange", path: "left", to: "right" }]),
    ["M left/", "M left/n/", "M left/n/x", "M left/y = left/n/x", "M right/", "M right/n/", "M right/n/x", "M right/y"],
  ],
  ["subdirectories exchanged", (tree) => performAll(tree, [{ op: "exchange", path: "left/n", to: "right/n" }])],
  ["directory moved over another of the same names", "rm -r right; mv left right"],
  [
    "files of two directories exchanged",
    (tree) => performAll(tree, [{ op: "exchange", path: "left/n/x", to: "right/n/x" }]),
  ],
  ["directories exchanged below", (tree) => performAll(tree, [{ op: "exchange", path: "deep/a/b", to: "d/e" }])],
  ["directory and file exchanged", (tree) => performAll(tree, [{ op: "exchange", path: "deep/a/b", to: "d/f" }])],
  ["directory replaced by one from below", "mv deep/a/b t; rm -r deep; mv t deep"],
  ["directory moved there and back", "mv deep/a/b t; mv t deep/a/b", ["M deep/", "M deep/a/"]],
  ["new link", keeping("d", "ln d/f d/n"), ["M d/", "M d/f", "A d/n = d/f"]],
  [
    "new link far away",
    "ln deep/a/b/c/x n",
    ["M deep/", "M deep/a/", "M deep/a/b/", "M deep/a/b/c/", "M deep/a/b/c/x", "A n = deep/a/b/c/x"],
  ],
  ["one link less", "rm i", ["D i"]],
  ["all links but one gone", "rm i d/j deep/a/b/j"],
  ["link broken", "cp -p i t; mv t i", ["M i"]],
  ["link broken, other content", "cp -p i t; echo x >>t; mv t i", ["M i"]],
  ["content of links", "echo x >>h"],
  ["links regrouped", "cp -p h t; ln -f t i; ln -f t d/j; rm t"],
  [
    "link moved to another inode",
    keeping("d", "rm d/two; cp -p d/one d/two; rm d/one; ln d/two d/one"),
    ["M d/", "M d/one", "M d/two = d/one"],
  ],
  ["links in a renamed directory and elsewhere", "mv deep/a n"],
  ["a link moved with its directory, the other replaced", "mv deep/a/b n; cp -p h t; mv t h"],
  ["a name takes over another's inode", "mv d/alone t; ln h d/alone; rm t"],
];

const root = mkdtempSync(join(tmpdir(), "lamella-hints-"));
after(() => rmSync(root, { recursive: true }));
let made = 0;
const fresh = (): string => join(root, String(made++));

function change(tree: string, what: Change): void {
  if (typeof what === "string") sh(what, tree);
  else what(tree);
}

/** Checks that the stream by the hint is the one without, and gives the tree. */
function check(source: TreesSource, expected?: readonly string[]): void {
  const differ = new TreesDiffer(source);
  const tar = layerTarOf(differ.changes());
  assert.equal(differ.doubt, undefined);
  const stream = [...new TreesDiffer(source).changes()].map(short);
  const { parent = "", tree } = source;
  assert.deepEqual(stream, [...new TreesDiffer({ kind: "trees", parent, tree }).changes()].map(short));
  if (expected !== undefined) assert.deepEqual(stream, expected);
  const result = fresh();
  copyTree(parent, result);
  applyLayerTar({ whiteouts: "remove", root: result, lowers: [], prefix: "trusted.overlay." }, tar, fresh());
  const done = withoutSockets(snapshot(tree));
  assert.deepEqual(differences(done, snapshot(result), [...done.inodes.keys()]), []);
}

/** No layer can hold a socket. */
function withoutSockets({ lines, inodes }: TreeSnapshot): TreeSnapshot {
  return { lines: new Map([...lines].filter(([, line]) => !line.startsWith("140"))), inodes };
}

/** What all the trees here begin as: made once, long ago as far as change times are concerned. */
let planted: string | undefined;
function plantedTree(): string {
  if (planted === undefined) {
    planted = fresh();
    mkdirSync(planted);
    sh(base, planted);
    settle();
  }
  return planted;
}

function eachCase(run: (what: Change, expected: readonly string[] | undefined) => void): void {
  for (const [name, what, expected] of cases) {
    it(name, (t) => {
      const ready = privateMounts();
      if (ready !== true) return t.skip(ready);
      run(what, expected);
    });
  }
}

for (const kind of ["btrfs", "ext4"] as const) {
  describe(`a clone: ${kind}`, () => {
    let lab: CloneLab | undefined;
    after(() => lab?.[Symbol.dispose]());
    eachCase((what, expected) => {
      if (lab === undefined) {
        lab = new CloneLab(kind);
        sh(base, lab.tree);
        settle();
      }
      lab.rewind();
      const { parent, tree, clock } = lab.clone();
      change(tree, what);
      check({ kind: "trees", parent, tree, hint: { kind: "clone", clock } }, expected);
    });
  });
}

for (const settled of [true, false]) {
  describe(`a copy with a manifest, taken ${settled ? "later" : "at once"}`, () => {
    eachCase((what, expected) => {
      const [parent, tree, path] = [plantedTree(), fresh(), fresh()];
      copyTree(parent, tree);
      if (settled) settle();
      writeManifest(tree, path);
      change(tree, what);
      check({ kind: "trees", parent, tree, hint: { kind: "manifest", path } }, expected);
    });
  });
}

describe("trees of hard links", () => {
  eachCase((what, expected) => {
    const [parent, copy, tree] = [plantedTree(), fresh(), fresh()];
    copyTree(parent, copy);
    change(copy, what);
    execFileSync("cp", ["-al", parent, tree]);
    const before = snapshot(parent);
    const tar = layerTarOf(new TreesDiffer({ kind: "trees", parent, tree: copy }).changes());
    applyLayerTar({ whiteouts: "remove", root: tree, lowers: [], prefix: "trusted.overlay." }, tar, fresh());
    assert.deepEqual(differences(before, snapshot(parent)), [], "nothing was written in place");
    check({ kind: "trees", parent, tree, hint: { kind: "inode" } }, expected);
  });
});

describe("candidates", () => {
  eachCase((what, expected) => {
    const [parent, tree] = [plantedTree(), fresh()];
    copyTree(parent, tree);
    change(tree, what);
    const paths = candidatesOf(snapshot(parent), snapshot(tree));
    check({ kind: "trees", parent, tree, hint: { kind: "candidates", paths, subtrees: [] } }, expected);
  });
});
