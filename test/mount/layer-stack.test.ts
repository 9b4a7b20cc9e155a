/** The merged view of LayerStack against the kernel's own mount of the same layers, for layers no mount would write. */
import assert from "node:assert/strict";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import { kernelAtLeast } from "../../src/fs/overlay-mount.ts";
import { isDirectory, isRegular, LayerStack, type MergedEntry } from "../../src/overlayfs/layer-stack.ts";
import * as C from "../../src/sys/constants.ts";
import * as sys from "../../src/sys/syscalls.ts";
import { OverlayLab, privateMounts } from "../support/overlay-lab.ts";

/** Sets overlay attributes of a layer by hand: `path name=value`, where `name` is without its prefix. */
function mark(layer: string, prefix: string, marks: readonly string[]): void {
  using at = sys.open(layer, C.O_RDONLY | C.O_DIRECTORY);
  for (const line of marks) {
    const [, path, name, value] = /^(\S+) ([\w.]+)=(.*)$/.exec(line) ?? [];
    sys.lsetxattrat(at.fd, path ?? "", `${prefix}${name}`, Buffer.from(value ?? "", "latin1"));
  }
}

/** Every path of the stack's view with its mode, and content where there is one. */
function viewOf(stack: LayerStack, entry: MergedEntry, into: Record<string, string> = {}): Record<string, string> {
  for (const name of stack.list(entry)) {
    const child = stack.lookupIn(entry, name);
    assert.ok(child, `${entry.path}/${name} is listed but not found`);
    let content = "";
    if (isRegular(child.stat)) {
      using file = stack.open(child);
      const bytes = Buffer.alloc(child.stat.size);
      sys.pread64(file.fd, bytes, bytes.length, 0);
      content = bytes.toString("latin1");
    }
    into[child.path] = `${child.stat.mode.toString(8)} ${content}`;
    if (isDirectory(child.stat)) viewOf(stack, child, into);
  }
  return into;
}

function viewOfMount(root: string, path = "", into: Record<string, string> = {}): Record<string, string> {
  for (const name of readdirSync(join(root, path))) {
    const child = path === "" ? name : `${path}/${name}`;
    const stat = lstatSync(join(root, child));
    const content = stat.isFile() ? readFileSync(join(root, child), "latin1") : "";
    into[child] = `${stat.mode.toString(8)} ${content}`;
    if (stat.isDirectory()) viewOfMount(root, child, into);
  }
  return into;
}

interface HandMade {
  readonly fill: string;
  readonly marks?: readonly string[];
}

/** Layers from the bottom up; both views must be equal, and hold (or lack) the paths named. */
function agrees(name: string, layers: readonly HandMade[], expected: Record<string, string | undefined>): void {
  test(name, (t: TestContext) => {
    const ready = privateMounts();
    if (ready !== true) return t.skip(ready);
    using lab = new OverlayLab({ redirectDir: true, metacopy: true });
    for (const layer of layers) {
      lab.base(layer.fill);
      mark(lab.layers[0] ?? "", lab.prefix, layer.marks ?? []);
    }
    lab.mount();
    using stack = LayerStack.open([lab.upper, ...lab.layers], lab);
    const view = viewOf(stack, stack.root);
    assert.deepEqual(view, viewOfMount(lab.merged));
    for (const [path, content] of Object.entries(expected)) assert.equal(view[path]?.split(" ")[1], content, path);
  });
}

// Linux knows whiteouts as attributes since 6.7; before, all are devices.
const attributes = kernelAtLeast(6, 7);
agrees(
  "whiteouts as devices and as attributes of empty files",
  [
    { fill: "mkdir d; echo a > d/a; echo b > d/b; echo c > d/c" },
    {
      fill: `mkdir d; ${attributes ? ": > d/a" : "mknod d/a c 0 0"}; mknod d/b c 0 0; : > d/c`,
      marks: attributes ? ["d opaque=x", "d/a whiteout=y"] : [],
    },
    { fill: "mkdir d; echo n > d/n" },
  ],
  { "d/a": undefined, "d/b": undefined, "d/c": "", "d/n": "n\n" },
);
agrees(
  "an opaque directory in the middle",
  [
    { fill: "mkdir -p d/sub; echo a > d/a; echo s > d/sub/s" },
    { fill: "mkdir -p d/sub; echo b > d/b; echo t > d/sub/t", marks: ["d opaque=y"] },
    { fill: "mkdir -p d/sub; echo c > d/c" },
  ],
  { "d/a": undefined, "d/sub/s": undefined, "d/b": "b\n", "d/sub/t": "t\n", "d/c": "c\n" },
);
agrees(
  "redirects: relative, absolute, through a renamed parent",
  [
    { fill: "mkdir -p one/deep; echo x > one/deep/x; echo o > one/o" },
    { fill: "mkdir -p two/deep; echo y > two/deep/y", marks: ["two redirect=one"] },
    { fill: "mkdir -p three moved; echo z > three/z", marks: ["three redirect=/two", "moved redirect=/two/deep"] },
  ],
  {
    "three/deep/x": "x\n",
    "three/deep/y": "y\n",
    "three/o": "o\n",
    "moved/x": "x\n",
    "moved/y": "y\n",
    "three/z": "z\n",
  },
);
agrees(
  "an absolute redirect clears the stop of an opaque parent",
  [
    { fill: "mkdir -p far a/inner; echo f > far/f; echo hidden > a/inner/h" },
    { fill: "mkdir -p a/inner; echo i > a/inner/i", marks: ["a opaque=y", "a/inner redirect=/far"] },
  ],
  { "a/inner/f": "f\n", "a/inner/i": "i\n", "a/inner/h": undefined },
);
agrees(
  "a metacopy chain over three layers with redirects",
  [
    { fill: "mkdir o; echo data > plain" },
    {
      fill: "mkdir o; truncate -s 5 o/p2; chmod 600 o/p2; mknod plain c 0 0",
      marks: ["o/p2 metacopy=", "o/p2 redirect=/plain"],
    },
    { fill: "truncate -s 5 p3; chmod 640 p3; mkdir o; mknod o/p2 c 0 0", marks: ["p3 metacopy=", "p3 redirect=/o/p2"] },
  ],
  { p3: "data\n", plain: undefined, "o/p2": undefined },
);
agrees(
  "a redirect on a full file is stale; the root's opaque means nothing; other prefixes are data",
  [
    { fill: "echo low > low; mkdir d; echo e > d/e" },
    {
      fill: "echo full > f; mkdir d",
      marks: ["f redirect=/low", ". opaque=y"],
    },
  ],
  { f: "full\n", low: "low\n", "d/e": "e\n" },
);
agrees(
  "types that replace each other",
  [
    { fill: "mkdir d e; echo a > d/a; echo f > f; ln -s f l" },
    { fill: "echo file > d; mkdir f; echo in > f/in; mkdir l" },
    { fill: "mkdir d; echo new > d/new; mkdir e; echo e > e/e" },
  ],
  { "d/a": undefined, "d/new": "new\n", "f/in": "in\n", "e/e": "e\n" },
);

test("a metacopy file without data below is data loss, not zeros", (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using lab = new OverlayLab();
  lab.base(":");
  lab.base("truncate -s 5 m");
  mark(lab.layers[0] ?? "", lab.prefix, ["m metacopy="]);
  using stack = LayerStack.open(lab.layers, lab);
  assert.throws(
    () => stack.lookup("m"),
    (error) => error instanceof LamellaError && error.kind === "data_loss",
  );
});

test("paths longer than the kernel takes at once", (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using lab = new OverlayLab();
  lab.base(
    `i=0; while [ $i -lt 30 ]; do mkdir ${"n".repeat(200)}; cd -P ${"n".repeat(200)}; i=$((i+1)); done; echo deep > leaf`,
  );
  using stack = LayerStack.open(lab.layers, lab);
  const leaf = stack.lookup(`${`${"n".repeat(200)}/`.repeat(30)}leaf`);
  assert.ok(leaf);
  using file = stack.open(leaf);
  const bytes = Buffer.alloc(5);
  sys.read(file.fd, bytes);
  assert.equal(bytes.toString(), "deep\n");
});

test("attributes: overlay's own are hidden, escaped ones lose one level, the other prefix stays", (t) => {
  const ready = privateMounts();
  if (ready !== true) return t.skip(ready);
  using lab = new OverlayLab();
  lab.base("mkdir d");
  mark(lab.layers[0] ?? "", "", [
    "d trusted.overlay.opaque=y",
    "d trusted.overlay.overlay.opaque=y",
    "d user.overlay.opaque=y",
  ]);
  using stack = LayerStack.open(lab.layers, lab);
  const entry = stack.lookup("d");
  assert.ok(entry);
  assert.deepEqual(
    stack.xattrs(entry).map((x) => x.name),
    ["trusted.overlay.opaque", "user.overlay.opaque"],
  );
});
