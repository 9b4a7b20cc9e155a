/**
 * The native diff of every state an overlay's upper can be in, each made by the real kernel: the table of states, then the
 * traps that a reader of redirects and metacopy falls into.
 */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { type LabOptions, OverlayLab, privateMounts, readUpper, sh } from "../support/overlay-lab.ts";

const moved: LabOptions = { redirectDir: true, metacopy: true };

/** Three files, a directory with a subdirectory, hard links, symlinks: what the examples of the kernel's states start from. */
const tree = `
  echo plain > plain; mkdir dir other deep deep/a deep/a/b
  echo f > dir/f; echo g > dir/g; mkdir dir/sub; echo h > dir/sub/h
  echo x > deep/a/b/x; echo y > deep/a/y; echo z > deep/z
  echo hl > hl1; ln hl1 hl2; ln hl1 dir/hl3; ln -s target link; mkfifo fifo`;

function lab(t: TestContext, options: LabOptions = moved): OverlayLab | undefined {
  const ready = privateMounts();
  if (ready !== true) {
    t.skip(ready);
    return undefined;
  }
  return new OverlayLab(options);
}

function makeSocket(directory: string, name: string): void {
  using at = sys.open(directory, C.O_RDONLY | C.O_DIRECTORY);
  sys.mknodat(at.fd, name, C.S_IFSOCK | 0o600);
}

/** One state: what is done in the mount, and the stream it must give. */
function state(
  name: string,
  change: string | ((merged: string) => void),
  expected: readonly string[],
  more: { options?: LabOptions; base?: string; contents?: Record<string, string>; middle?: string } = {},
): void {
  test(name, (t) => {
    using made = lab(t, more.options);
    if (!made) return;
    made.base(more.base ?? tree);
    if (more.middle !== undefined) {
      made.upperOver(more.middle);
      made.commit();
    }
    const source = made.upperOver(change);
    const read = readUpper(source);
    assert.deepEqual(read.changes, expected);
    for (const [path, content] of Object.entries(more.contents ?? {})) assert.equal(read.contents[path], content, path);
  });
}

// ---- the table of states ---------------------------------------------------------------------------------------------

state("nothing changed", ":", []);
state(
  "new objects of every type; sockets are skipped",
  (merged) => {
    makeSocket(merged, "sock");
    sh(
      "echo n > new; mkdir newdir; echo c > newdir/c; ln -s where newlink; mkfifo newfifo; mknod newdev b 7 5",
      merged,
    );
  },
  ["A new", "A newdev", "A newdir/", "A newdir/c", "A newfifo", "A newlink -> where"],
  { contents: { new: "n\n", "newdir/c": "c\n" } },
);
state("a copied-up file that changed", "echo more >> dir/f", ["M dir/", "M dir/f"], {
  contents: { "dir/f": "f\nmore\n" },
});
state("a copied-up file that did not change is dropped", "exec 3<>dir/f; touch -r plain plain; exec 4<>plain", []);
state(
  "a file touched back to its old time with other content of the same size",
  (merged) => {
    const path = join(merged, "dir/f");
    const { atimeNs, mtimeNs } = statSync(path, { bigint: true });
    writeFileSync(path, "F\n");
    const fd = sys.open(join(merged, "dir"), C.O_RDONLY | C.O_DIRECTORY);
    using directory = fd;
    const parts = (ns: bigint): [number, number] => [Number(ns / 1000000000n), Number(ns % 1000000000n)];
    const [atimeSec, atimeNsec] = parts(atimeNs);
    const [mtimeSec, mtimeNsec] = parts(mtimeNs);
    sys.utimensat(directory.fd, "f", { atimeSec, atimeNsec, mtimeSec, mtimeNsec });
  },
  ["M dir/", "M dir/f"],
);
state("a directory copied up for a child: the child with its parents", "chmod 600 dir/sub/h", [
  "M dir/",
  "M dir/sub/",
  "M dir/sub/h",
]);
state("whiteouts", "rm plain dir/g; rm -r deep", ["D deep", "M dir/", "D dir/g", "D plain"]);
state(
  "a whiteout of what the base lacks is dropped",
  (merged) => {
    sh("mkdir only; echo a > only/a", merged);
    sh("rm -r only", merged);
  },
  [],
);
state("an opaque directory where the base has one", "rm -r dir; mkdir dir; echo new > dir/new", [
  "M dir/",
  "O dir",
  "A dir/new",
]);
state(
  "an opaque directory where the base has a file: no deletion of the same name",
  "rm plain; mkdir plain; echo x > plain/x",
  ["M plain/", "A plain/x"],
);
state("a file where the base has a directory", "rm -r dir; echo file > dir", ["M dir"]);
state("a new directory over an older whiteout", "mkdir dir; echo n > dir/n", ["A dir/", "A dir/n"], {
  middle: "rm -r dir",
});
state(
  "a moved directory",
  "mv dir dirN",
  ["D dir", "A dirN/", "A dirN/f", "A dirN/g", "A dirN/hl3", "A dirN/sub/", "A dirN/sub/h"],
  { contents: { "dirN/f": "f\n", "dirN/sub/h": "h\n" } },
);
state("a directory moved away and back is an ordinary merge", "mv dir x; mv x dir", []);
state(
  "a moved directory without redirect_dir is a copy",
  "mv dir dirN 2>/dev/null",
  ["D dir", "A dirN/", "A dirN/f", "A dirN/g", "A dirN/hl3", "A dirN/sub/", "A dirN/sub/h"],
  { options: {} },
);
state(
  "metacopy: a new owner carries the data of the lower layer",
  "chown -R 5:6 dir/sub plain",
  ["M dir/", "M dir/sub/", "M dir/sub/h", "M plain"],
  { contents: { "dir/sub/h": "h\n", plain: "plain\n" } },
);
state("metacopy: changed and changed back is dropped", "chmod 600 plain; chmod 644 plain", []);
state("hard links in the upper keep together", "echo 1 > n1; ln n1 n2; mkdir nd; ln n1 nd/n3", [
  "A n1",
  "A n2 = n1",
  "A nd/",
  "A nd/n3 = n1",
]);
state("a link to a lower file", "ln plain plain2", ["M plain", "A plain2 = plain"], {
  contents: { plain: "plain\n" },
});
state("a copied-up hard link leaves its group", "chmod 600 hl2", ["M hl2"]);
state(
  "an attribute alone",
  (merged) => {
    using at = sys.open(merged, C.O_RDONLY | C.O_DIRECTORY);
    sys.lsetxattrat(at.fd, "plain", "trusted.note", Buffer.from("hi"));
  },
  ["M plain"],
);
state("the root's own metadata", "chmod 700 .", ["M ./"]);
state("whiteouts are hard links of one inode and never a link group", "rm plain hl1 dir/f", [
  "M dir/",
  "D dir/f",
  "D hl1",
  "D plain",
]);
state(
  "a socket in place of a file deletes the file",
  (merged) => {
    sh("rm plain", merged);
    makeSocket(merged, "plain");
  },
  ["D plain"],
);
state(
  "a symlink retargeted with the same length and time",
  (merged) => {
    using at = sys.open(merged, C.O_RDONLY | C.O_DIRECTORY);
    const old = sys.statx(at.fd, "link");
    sh("ln -sfn tegrat link", merged);
    sys.utimensat(at.fd, "link", old);
  },
  ["M link -> tegrat"],
);
state("names that are not UTF-8", "touch \"$(printf 'n\\377x')\"", [`A n\ufffdx`]);

test("a name a layer cannot hold is refused", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base(tree);
  const source = made.upperOver("echo a > dir/.wh.a");
  assert.throws(
    () => readUpper(source),
    (error) => error instanceof LamellaError && error.code === "INEXPRESSIBLE_NAME",
  );
});

test("a base layer is all additions, its device 0:0 no object", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base("echo a > a; mkdir d; mknod d/w c 0 0; chmod 700 .");
  const source = { kind: "upper", upper: made.layers[0] ?? "", lowers: [], prefix: "trusted.overlay." } as const;
  assert.deepEqual(readUpper(source).changes, ["M ./", "A a", "A d/"]);
});

test("a replaced directory taken apart for a person", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base(tree);
  const source = made.upperOver("cp -a dir/g keep; rm -r dir; mkdir dir; mv keep dir/g; echo n > dir/n");
  assert.deepEqual(readUpper(source, { expandOpaque: true }).changes, [
    "M dir/",
    "D dir/f",
    "D dir/hl3",
    "A dir/n",
    "D dir/sub",
  ]);
});

test("the cost is that of the upper", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base("mkdir big; cd big; i=0; while [ $i -lt 3000 ]; do : > f$i; i=$((i+1)); done");
  const source = made.upperOver("echo a > big/new; rm big/f7");
  const read = readUpper(source);
  assert.deepEqual(read.changes, ["M big/", "D big/f7", "A big/new"]);
  assert.ok(read.visited <= 3, `${read.visited} entries visited`);
});

// ---- the traps -------------------------------------------------------------------------------------------------------

const wholeDir = (at: string): string[] => [
  `A ${at}/`,
  `A ${at}/f`,
  `A ${at}/g`,
  `A ${at}/hl3`,
  `A ${at}/sub/`,
  `A ${at}/sub/h`,
];

state("trap 1: moved, then made anew: no whiteout anywhere", "mv dir dirN; mkdir dir", [
  "M dir/",
  "O dir",
  ...wholeDir("dirN"),
]);
state("trap 2: moved, then a file in its place", "mv dir dirN; echo file > dir", ["M dir", ...wholeDir("dirN")]);
state(
  "trap 3: two directories exchanged: two redirects, no whiteout",
  (merged) => {
    using at = sys.open(merged, C.O_RDONLY | C.O_DIRECTORY);
    sys.renameat2(at.fd, "dir", at.fd, "other", C.RENAME_EXCHANGE);
  },
  ["M dir/", "O dir", "M other/", "O other", ...wholeDir("other").slice(1)],
);
state(
  "trap 4: moved into an opaque directory: an absolute redirect below an opaque parent",
  "rm -r deep; mkdir deep; mv dir deep/dir",
  ["M deep/", "O deep", ...wholeDir("deep/dir"), "D dir"],
);
state("trap 4: moved in and out again", "rm -r deep; mkdir deep; mv dir deep/dir; mv deep/dir dir", [
  "M deep/",
  "O deep",
]);
state(
  "trap 5: nested moves name original paths",
  "mv deep D; mv D/a/b B; mv D/a A",
  ["A A/", "A A/y", "A B/", "A B/x", "A D/", "A D/z", "D deep"],
  { contents: { "A/y": "y\n", "B/x": "x\n", "D/z": "z\n" } },
);
state(
  "trap 6: metacopy inside a moved directory: the data is the parent's",
  "mv dir dirN; chmod 600 dirN/f; mkdir dir; echo wrong > dir/f",
  ["M dir/", "O dir", "A dir/f", ...wholeDir("dirN")],
  { contents: { "dirN/f": "f\n", "dir/f": "wrong\n" } },
);
test("trap 7: with index=off a write to one hard link changes that name alone", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base(tree);
  const source = made.upperOver("echo x >> hl2; rm hl2");
  assert.deepEqual(readUpper(source).changes, ["D hl2"]);
  assert.equal(readFileSync(join(made.merged, "hl1"), "utf8"), "hl\n");
});
state(
  "trap 8: metacopy of a hard-linked file, and a link to it",
  "chmod 600 hl1; ln hl1 other/x",
  ["M hl1", "M other/", "A other/x = hl1"],
  { contents: { hl1: "hl\n" } },
);
state("trap 9: a chmod without metacopy is a full copy", "chmod 600 plain", ["M plain"], {
  options: { redirectDir: true },
  contents: { plain: "plain\n" },
});
state("trap 10: file to directory and directory to file", "rm plain; mkdir plain; rm -r other; echo o > other", [
  "M other",
  "M plain/",
]);
state(
  "trap 11: a stale redirect on a file written in full",
  "mv plain p2; echo w > p2; echo new > plain",
  ["A p2", "M plain"],
  {
    contents: { p2: "w\n", plain: "new\n" },
  },
);
test("trap 12: metacopy chains through the layers", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base(tree);
  made.upperOver("mv plain other/p2; chmod 600 other/p2");
  made.commit();
  const source = made.upperOver("mv other/p2 p3; chown 7:7 p3");
  const read = readUpper(source);
  assert.deepEqual(read.changes, ["M other/", "D other/p2", "A p3"]);
  assert.equal(read.contents.p3, "plain\n");
  made.commit();
  const third = readUpper(made.upperOver("chmod 640 p3"));
  assert.deepEqual(third.changes, ["M p3"]);
  assert.equal(third.contents.p3, "plain\n");
});
test("redirects through chains of layers", (t) => {
  using made = lab(t);
  if (!made) return;
  made.base(tree);
  for (const [from, to] of [
    ["deep", "one"],
    ["one", "dir/two"],
    ["dir/two", "three"],
  ]) {
    made.upperOver(`mv ${from} ${to}`);
    made.commit();
  }
  const read = readUpper(made.upperOver("mv three/a four; echo q > four/b/q"));
  assert.deepEqual(read.changes, [
    "A four/",
    "A four/b/",
    "A four/b/q",
    "A four/b/x",
    "A four/y",
    "M three/",
    "D three/a",
  ]);
  assert.equal(read.contents["four/b/x"], "x\n");
});
