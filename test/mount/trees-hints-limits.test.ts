/** Diffs by what is known of two trees: how much is looked at, and what happens when the hint does not hold. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it, type TestContext } from "node:test";
import { type ClockStamp, takeClockStamp } from "../../src/diff/clock-stamp.ts";
import type { TreesHint, TreesSource } from "../../src/diff/source.ts";
import { writeManifest } from "../../src/diff/tree-manifest-write.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import { copyTree } from "../../src/fs/copy-tree.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { CloneLab, settle } from "../support/clone-lab.ts";
import { privateMounts, sh, short } from "../support/overlay-lab.ts";
import { performAll } from "../support/random-operations.ts";

const home = fs.mkdtempSync(join(tmpdir(), "lamella-limits-"));
after(() => fs.rmSync(home, { recursive: true }));
let made = 0;
const fresh = (): string => join(home, String(made++));

function diff(parent: string, tree: string, hint?: TreesHint): { stream: string[]; visited: number; doubt?: string } {
  const differ = new TreesDiffer({ kind: "trees", parent, tree, hint });
  const stream = [...differ.changes()].map(short);
  return { stream, visited: differ.visited, ...(differ.doubt !== undefined && { doubt: differ.doubt }) };
}

/** 20 directories of 30 files each: 620 names. */
function plant(tree: string): void {
  for (let i = 0; i < 20; i++) {
    fs.mkdirSync(join(tree, `d${i}`));
    for (let j = 0; j < 30; j++) fs.writeFileSync(join(tree, `d${i}/f${j}`), `${i} ${j}`);
  }
}

function changeThree(tree: string): void {
  fs.appendFileSync(join(tree, "d3/f3"), "more");
  fs.writeFileSync(join(tree, "d5/new"), "new");
  fs.rmSync(join(tree, "d7/f7"));
}
const three = ["M d3/", "M d3/f3", "M d5/", "A d5/new", "M d7/", "D d7/f7"];

function mounts(t: TestContext): boolean {
  const ready = privateMounts();
  if (ready !== true) t.skip(ready);
  return ready === true;
}

describe("how much is looked at", () => {
  it("clone: the tree, and of the parent what changed", (t) => {
    if (!mounts(t)) return;
    using lab = new CloneLab("btrfs");
    plant(lab.tree);
    settle();
    const { parent, tree, clock } = lab.clone();
    assert.deepEqual(diff(parent, tree, { kind: "clone", clock }), { stream: [], visited: 620 });
    changeThree(tree);
    // The parent's f3, and the names of d5 and d7; these two directories themselves as well.
    const { stream, visited } = diff(parent, tree, { kind: "clone", clock });
    assert.deepEqual(stream, three);
    assert.equal(visited, 620 + 1 + 30 + 30 + 2);
  });

  it("manifest: the same", () => {
    const [parent, tree, path] = [fresh(), fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    copyTree(parent, tree);
    settle();
    writeManifest(tree, path);
    assert.deepEqual(diff(parent, tree, { kind: "manifest", path }), { stream: [], visited: 620 });
    changeThree(tree);
    const { stream, visited } = diff(parent, tree, { kind: "manifest", path });
    assert.deepEqual(stream, three);
    assert.equal(visited, 620 + 1 + 30 + 30 + 2);
  });

  it("inode: the directories of both trees, and what changed", () => {
    const [parent, tree] = [fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    execFileSync("cp", ["-al", parent, tree]);
    assert.deepEqual(diff(parent, tree, { kind: "inode" }), { stream: [], visited: 40 });
    fs.rmSync(join(tree, "d3/f3"));
    fs.writeFileSync(join(tree, "d3/f3"), "3 3more");
    changeThree(tree);
    const { stream, visited } = diff(parent, tree, { kind: "inode" });
    assert.deepEqual(stream, three);
    assert.equal(visited, 40 + 2 + 1 + 1);
  });

  it("candidates: themselves, and the directories on the way", () => {
    const [parent, tree] = [fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    copyTree(parent, tree);
    changeThree(tree);
    const paths = ["d3/f3", "d5", "d5/new", "d7", "d7/f7"];
    const { stream, visited } = diff(parent, tree, { kind: "candidates", paths, subtrees: [] });
    assert.deepEqual(stream, three);
    assert.equal(visited, 6 + 2 + 1 + 1);
    fs.mkdirSync(join(tree, "n/m"), { recursive: true });
    fs.writeFileSync(join(tree, "n/m/f"), "");
    const hint = { kind: "candidates", paths: [], subtrees: ["n", "d3", "d9/f1"] } as const;
    assert.deepEqual(diff(parent, tree, hint).stream, ["M d3/", "M d3/f3", "A n/", "A n/m/", "A n/m/f"]);
  });

  it("none: nothing, not even the trees", () => {
    assert.deepEqual(diff(fresh(), fresh(), { kind: "none" }), { stream: [], visited: 0 });
  });
});

describe("any number of threads", () => {
  it("gives the same stream", (t) => {
    if (!mounts(t)) return;
    using lab = new CloneLab("btrfs");
    const volume = join(lab.tree, "..");
    for (let i = 0; i < 8; i++) {
      fs.mkdirSync(join(lab.tree, `${i}`));
      plant(join(lab.tree, `${i}`));
    }
    settle();
    const { parent, tree, clock } = lab.clone();
    const [copy, path, links] = [join(volume, "copy"), join(volume, "manifest"), join(volume, "links")];
    copyTree(parent, copy);
    settle();
    writeManifest(copy, path);
    fs.mkdirSync(join(volume, "parent"));
    const linksParent = join(volume, "parent/tree");
    copyTree(parent, linksParent);
    execFileSync("cp", ["-al", linksParent, links]);
    const replace = (root: string, name: string): void => {
      fs.rmSync(join(root, name));
      fs.writeFileSync(join(root, name), "replaced");
    };
    for (const root of [tree, copy, links]) {
      for (let i = 0; i < 8; i++) {
        replace(root, `${i}/d${i}/f${i}`);
        fs.linkSync(join(root, `${i}/d1/f1`), join(root, `${(i + 5) % 8}/linked`));
        fs.renameSync(join(root, `${i}/d2`), join(root, `${(i + 3) % 8}/moved${i}`));
      }
    }
    const sources: readonly TreesSource[] = [
      { kind: "trees", parent, tree, hint: { kind: "clone", clock } },
      { kind: "trees", parent, tree: copy, hint: { kind: "manifest", path } },
      { kind: "trees", parent: linksParent, tree: links, hint: { kind: "inode" } },
      {
        kind: "trees",
        parent,
        tree,
        hint: { kind: "candidates", paths: [], subtrees: [...Array(8).keys()].map(String) },
      },
    ];
    for (const source of sources) {
      const stream = (threads: number, hint = source.hint): string[] => {
        const differ = new TreesDiffer({ ...source, hint }, { threads });
        const changes = [...differ.changes()].map(short);
        assert.equal(differ.doubt, undefined);
        return changes;
      };
      const one = stream(1);
      assert.ok(one.length > 200);
      for (const threads of [2, 4]) assert.deepEqual(stream(threads), one);
      const { hint: _, ...whole } = source;
      assert.deepEqual([...new TreesDiffer(whole).changes()].map(short), one);
    }
  });
});

describe("a hint that does not hold", () => {
  const doubts: readonly (readonly [string, (clock: ClockStamp) => ClockStamp, RegExp])[] = [
    ["the clock was set back", (clock) => ({ ...clock, offsetUs: clock.offsetUs + 30e6 }), /set back/],
    ["another boot", (clock) => ({ ...clock, boot: "another" }), /started anew/],
  ];
  for (const [name, doubtful, reason] of doubts) {
    it(`is passed over: ${name}`, (t) => {
      if (!mounts(t)) return;
      using lab = new CloneLab("btrfs");
      plant(lab.tree);
      settle();
      const { parent, tree, clock } = lab.clone();
      performAll(tree, [{ op: "disguise", path: "d1/f1" }]);
      const cloned = diff(parent, tree, { kind: "clone", clock: doubtful(clock) });
      assert.deepEqual(cloned.stream, ["M d1/", "M d1/f1"]);
      assert.match(cloned.doubt ?? "", reason);

      const [copy, path] = [fresh(), fresh()];
      copyTree(parent, copy);
      writeManifest(copy, path, { clock: doubtful(takeClockStamp(home)) });
      performAll(copy, [{ op: "disguise", path: "d1/f1" }]);
      const copied = diff(parent, copy, { kind: "manifest", path });
      assert.deepEqual(copied.stream, ["M d1/", "M d1/f1"]);
      assert.match(copied.doubt ?? "", reason);
    });
  }

  it("is passed over: there is no manifest", () => {
    const [parent, tree] = [fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    copyTree(parent, tree);
    performAll(tree, [{ op: "disguise", path: "d1/f1" }]);
    const { stream, doubt } = diff(parent, tree, { kind: "manifest", path: fresh() });
    assert.deepEqual(stream, ["M d1/", "M d1/f1"]);
    assert.match(doubt ?? "", /manifest/);
  });

  it("is passed over: something is mounted in the tree", (t) => {
    if (!mounts(t)) return;
    const [parent, tree, other] = [fresh(), fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    fs.writeFileSync(other, "other");
    execFileSync("cp", ["-al", parent, tree]);
    sys.mount(other, join(tree, "d1/f1"), "", C.MS_BIND, "");
    try {
      const { stream, doubt } = diff(parent, tree, { kind: "inode" });
      assert.deepEqual(stream, ["M d1/", "M d1/f1"]);
      assert.match(doubt ?? "", /mounted/);
    } finally {
      sys.umount2(join(tree, "d1/f1"), C.MNT_DETACH);
    }
  });
});

describe("a file system that does not note what is written through maps", () => {
  it("manifest: the hint is passed over", (t) => {
    if (!mounts(t)) return;
    const volume = fresh();
    fs.mkdirSync(volume);
    sys.mount("test", volume, "tmpfs", 0, "");
    try {
      const [parent, tree, path] = [`${volume}/parent`, `${volume}/tree`, `${volume}/manifest`];
      fs.mkdirSync(parent);
      fs.writeFileSync(join(parent, "f"), "content");
      copyTree(parent, tree);
      settle();
      writeManifest(tree, path);
      const write = "import mmap,os; m=mmap.mmap(os.open('f',os.O_RDWR),7); m[0]; m[0:1]=b'K'";
      execFileSync("python3", ["-c", write], { cwd: tree });
      const { stream, doubt } = diff(parent, tree, { kind: "manifest", path });
      assert.deepEqual(stream, ["M f"]);
      assert.match(doubt ?? "", /tmpfs/);
    } finally {
      sys.umount2(volume, C.MNT_DETACH);
    }
  });
});

describe("a file system that keeps whole seconds", () => {
  it("clone: finds what changed within the second of the clone", (t) => {
    if (!mounts(t)) return;
    using lab = new CloneLab("ext4", { small: true });
    plant(lab.tree);
    assert.ok(takeClockStamp(join(lab.tree, "d0")).granularityNs >= 1e9);
    // The stamp is one of another file system, with steps of its own: what the change times themselves show is enough.
    const { parent, tree, clock } = lab.clone();
    performAll(tree, [{ op: "disguise", path: "d1/f1" }]);
    const { stream, doubt } = diff(parent, tree, { kind: "clone", clock });
    assert.deepEqual(stream, ["M d1/", "M d1/f1"]);
    assert.equal(doubt, undefined);
  });

  it("manifest: finds what changed within the second of the copy", (t) => {
    if (!mounts(t)) return;
    using lab = new CloneLab("ext4", { small: true });
    fs.writeFileSync(join(lab.tree, "f"), "content");
    for (let i = 0; ; i++) {
      const [tree, path] = [`${lab.tree}${i}`, `${lab.tree}.manifest${i}`];
      fs.mkdirSync(tree);
      copyTree(lab.tree, tree);
      const before = sys.statx(C.AT_FDCWD, join(tree, "f"));
      writeManifest(tree, path);
      performAll(tree, [{ op: "disguise", path: "f" }]);
      assert.deepEqual(diff(lab.tree, tree, { kind: "manifest", path }).stream, ["M f"]);
      const now = sys.statx(C.AT_FDCWD, join(tree, "f"));
      assert.ok(now.ctimeNsec === 0 && before.ctimeNsec === 0);
      if (now.ctimeSec === before.ctimeSec) break;
    }
  });

  it("is said by the stamp: what lies within a step of it is compared", () => {
    const [parent, tree, path] = [fresh(), fresh(), fresh()];
    fs.mkdirSync(parent);
    plant(parent);
    copyTree(parent, tree);
    settle();
    const clock = { ...takeClockStamp(home), granularityNs: 1000e9 };
    writeManifest(tree, path, { clock });
    assert.equal(diff(parent, tree, { kind: "manifest", path }).visited, 1240);
    writeManifest(tree, path, { clock: { ...clock, sec: clock.sec + 2000 } });
    assert.equal(diff(parent, tree, { kind: "manifest", path }).visited, 620);
  });
});

describe("an inode number that is given out again", () => {
  it("clone and manifest: the object is another", (t) => {
    if (!mounts(t)) return;
    using lab = new CloneLab("ext4");
    plant(lab.tree);
    settle();
    const { parent, tree, clock } = lab.clone();
    const path = fresh();
    const before = sys.statx(C.AT_FDCWD, join(tree, "d2/f2"));
    writeManifest(tree, path);
    sh("touch -r d2 ../time; rm d2/f2; echo other >d2/f2; truncate -s 3 d2/f2; touch -r ../time d2", tree);
    sys.utimensat(C.AT_FDCWD, join(tree, "d2/f2"), before);
    const now = sys.statx(C.AT_FDCWD, join(tree, "d2/f2"));
    assert.deepEqual([now.inoLow, now.size, now.mtimeNsec], [before.inoLow, before.size, before.mtimeNsec]);
    for (const hint of [
      { kind: "clone", clock },
      { kind: "manifest", path },
    ] as const)
      assert.deepEqual(diff(parent, tree, hint), { stream: ["M d2/", "M d2/f2"], visited: 620 + 30 + 1 });
  });
});
