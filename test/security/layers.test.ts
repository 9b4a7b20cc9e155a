/**
 * Hostile and unusual layer archives. Every item is applied to an overlay's upper directory and to a full copy; nothing
 * outside may change, and what applies must come back byte for byte from its record. layers-userns.test.ts runs this file
 * again in a user namespace.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { bytesOfText } from "../../src/lib/bytes.ts";
import * as C from "../../src/sys/constants.ts";
import * as raw from "../../src/sys/raw.ts";
import * as sys from "../../src/sys/syscalls.ts";
import {
  dir,
  entryBytes,
  file,
  fixChecksum,
  hardlink,
  type Item,
  isInitialUserns,
  item,
  Layers,
  modes,
  names,
  Playground,
  patched,
  paxBytes,
  paxRecord,
  prefix,
  symlink,
  tarOf,
} from "./layers-fixtures.ts";

/** A test in every mode. */
function every(name: string, body: (layers: () => Layers, t: TestContext, ground: Playground) => void): void {
  for (const mode of modes) {
    test(`${name} (${mode})`, (t) => {
      using ground = new Playground();
      body(() => new Layers(ground, mode), t, ground);
      ground.assertUntouched();
    });
  }
}

// ---- paths and links

every("H01 names with .. stay inside", (layers) => {
  for (const name of ["../victim/f", "/../victim/f", "a/../../victim/f"]) {
    using layer = layers();
    const tree = layer.layer(file(name));
    assert.equal(names(tree), "victim victim/f");
    assert.equal(tree.get("victim/f")?.content, `content of ${name}`);
  }
});

every("H02 absolute names are taken from the root", (layers) => {
  using layer = layers();
  assert.equal(names(layer.layer(file("/etc/passwd"), dir("//x//y/"))), "etc etc/passwd x x/y");
});

every("H03 hard links out of the root find nothing", (layers) => {
  for (const target of ["../victim/hello", "/../victim/hello", "/etc/passwd"]) {
    using layer = layers();
    const error = layer.refused(hardlink("l", target));
    assert.equal(error.code, "TAR_LINK_TARGET");
    assert.match(error.message, /^l: /);
  }
});

every("H04 CVE-2018-15664: a symbolic link out of the root is followed inside", (layers) => {
  using layer = layers();
  const tree = layer.layer(
    symlink("l", "../victim"),
    file("l/f"),
    symlink("l/s", "../../victim"),
    file("victim/x"),
    hardlink("l/h", "l/x"),
    file("l/s/deep"),
  );
  assert.equal(names(tree), "l victim victim/deep victim/f victim/h victim/s victim/x");
  using absolute = layers();
  assert.equal(names(absolute.layer(symlink("l", "/tmp/a"), file("l/f"))), "l tmp tmp/a tmp/a/f");
});

every("H05 a file of the same name replaces a symbolic link", (layers) => {
  using layer = layers();
  const tree = layer.layer(symlink("l", "../victim/hello"), file("l", "new"), symlink("d", "../victim"), dir("d"));
  assert.equal(tree.get("l")?.content, "new");
  assert.equal(tree.get("l")?.mode, 0o100644);
  assert.equal(tree.get("d")?.mode, 0o40755);
});

every("H06 CVE-2021-29136: the root can be nothing but a directory", (layers) => {
  for (const name of [".", "/.", "./", "/", "a/..", ".."]) {
    for (const type of ["symlink", "file", "hardlink", "fifo"] as const) {
      using layer = layers();
      const bytes = patched(item(type, "n", { linkName: "/tmp" }), (block) => block.fill(0, 0, 100).write(name, 0));
      assert.equal(layer.refused(file("before"), bytes).code, "TAR_NAME", `${type} ${name}`);
    }
  }
  using layer = layers();
  assert.equal(layer.layer(dir("./", { mode: 0o711 })).get("")?.mode, 0o40711);
});

every("H07 a chain of 41 symbolic links is refused, one of 40 is followed", (layers) => {
  const chain = (length: number) => [
    dir("end"),
    ...Array.from({ length }, (_, i) => symlink(`l${i}`, i === 0 ? "end" : `l${i - 1}`)),
    file(`l${length - 1}/f`),
  ];
  using short = layers();
  assert.ok(short.layer(...chain(40)).has("end/f"));
  using long = layers();
  assert.equal(long.refused(...chain(41)).code, "ELOOP");
  using loop = layers();
  assert.equal(loop.refused(symlink("a", "b"), symlink("b", "a"), file("a/f")).code, "ELOOP");
});

every("H08 a symbolic link of a lower layer is followed inside", (layers) => {
  using layer = layers();
  layer.layer(symlink("l", "../victim"), symlink("bin", "usr/bin"), dir("usr"), dir("usr/bin", { mode: 0o711 }));
  const tree = layer.layer(file("l/f"), file("bin/x"));
  assert.equal(names(tree), "bin l usr usr/bin usr/bin/x victim victim/f");
  assert.equal(tree.get("usr/bin")?.mode, 0o40711, "a parent copied up keeps its metadata");
  assert.equal(tree.get("usr/bin")?.mtime, "1600000000.0");
});

every("H09 CVE-2021-32760: a hard link to a symbolic link changes nothing behind it", (layers, _t, ground) => {
  using layer = layers();
  const tree = layer.layer(
    symlink("l", join(ground.victim, "hello")),
    item("hardlink", "h", { linkName: "l", mode: 0o4777, uid: 0, gid: 0 }),
  );
  assert.equal(tree.get("h")?.content, join(ground.victim, "hello"));
  assert.equal(tree.get("h")?.mode, 0o120777);
});

every("H10 hard links to lower files, to nothing, to themselves", (layers) => {
  using layer = layers();
  const attributes = { mode: 0o4751, mtimeNsec: 5, xattrs: new Map([["user.k", Buffer.from("v")]]) };
  layer.layer(dir("d", { mode: 0o710 }), file("d/f", "data", attributes), symlink("d/s", "f"));
  const tree = layer.layer(hardlink("h", "d/f"), hardlink("s", "d/s"));
  assert.deepEqual(tree.get("h"), tree.get("d/f"));
  assert.equal(tree.get("h")?.content, "data");
  assert.equal(tree.get("h")?.mode, 0o104751);
  assert.deepEqual(tree.get("h")?.xattrs, { "user.k": "v" });
  assert.equal(tree.get("s")?.content, "f");
  assert.equal(tree.get("d")?.mode, 0o40710);
  assert.ok(layer.layer(hardlink("d/f", "d/f")).has("d/f"));
  assert.equal(layer.refused(hardlink("n", "n")).code, "TAR_LINK_TARGET");
  assert.equal(layer.refused(hardlink("n", "d/none")).code, "TAR_LINK_TARGET");
  assert.equal(layer.refused(hardlink("n", "d")).code, "TAR_LINK_TARGET");
});

for (const mode of modes) {
  test(`H11 CVE-2026-17106: directories swapped for symbolic links meanwhile (${mode})`, async () => {
    using ground = new Playground();
    using layer = new Layers(ground, mode);
    layer.layer(dir("a"), dir("a/b"), file("a/b/old"));
    // The attacker turns a/b of whatever directory is there into a link to the victim and back, as fast as it can.
    const script = `const fs=require("fs"),r=${JSON.stringify(ground.path)};process.stdout.write("go");
      for(const end=Date.now()+2500;Date.now()<end;)for(const d of["d0","d1"]){const p=r+"/"+d+"/a";
      try{fs.renameSync(p+"/b",p+"/t");fs.symlinkSync(r+"/victim",p+"/b");fs.unlinkSync(p+"/b");fs.renameSync(p+"/t",p+"/b")}catch{}
      try{fs.unlinkSync(p+"/b")}catch{} try{fs.renameSync(p+"/t",p+"/b")}catch{}}`;
    const attacker = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await once(attacker.stdout, "data");
    const entries: Item[] = [];
    for (let i = 0; i < 300; i++)
      entries.push(
        dir("a/b"),
        file(`a/b/f${i}`),
        hardlink(`a/b/h${i}`, `a/b/f${i}`),
        symlink(`a/b/s${i}`, "x"),
        file("a/b/.wh.old"),
      );
    let refused = 0;
    for (const end = Date.now() + 2000; Date.now() < end; ) {
      try {
        layer.apply(tarOf(...entries));
      } catch {
        refused++;
      }
      if (layer.stacks) layer.paths.length = 1;
      ground.assertUntouched();
    }
    if (attacker.exitCode === null) await once(attacker, "exit");
    assert.ok(refused >= 0);
  });
}

// ---- whiteouts, devices, attributes

every("H12 whiteouts of no name are refused", (layers) => {
  for (const name of [".wh.", "d/.wh..", "d/.wh..."]) {
    using layer = layers();
    const error = layer.refused(dir("d"), file(name, ""));
    assert.equal(error.code, "TAR_WHITEOUT");
    assert.ok(error.message.includes(JSON.stringify(name)), error.message);
  }
  using layer = layers();
  assert.equal(layer.refused(file(".wh.d/x")).code, "TAR_WHITEOUT");
});

every("H13 whiteouts do not reach outside", (layers) => {
  using layer = layers();
  layer.layer(symlink("l", "../victim"), dir("victim"), file("victim/hello"), file("f"));
  const tree = layer.layer(file("../../.wh.f", ""), file("l/.wh.hello", ""), file("none/.wh.x", ""));
  assert.equal(names(tree), "l victim");
});

every("H14 an opaque mark in a symlinked directory concerns what the link leads to inside", (layers) => {
  using layer = layers();
  layer.layer(symlink("l", "../victim"), dir("victim"), file("victim/hello"), file("f"));
  assert.equal(names(layer.layer(file("l/.wh..wh..opq", ""))), "f l victim");
});

every("H15 the leftovers of aufs are left out", (layers) => {
  using layer = layers();
  const tree = layer.layer(
    dir(".wh..wh.plnk"),
    file(".wh..wh.plnk/123.456", "data in the record alone"),
    file(".wh..wh.aufs", ""),
    dir(".wh..wh.orph"),
    file("kept"),
  );
  assert.equal(names(tree), "kept");
  assert.equal(layer.refused(hardlink("h", ".wh..wh.plnk/123.456")).code, "TAR_LINK_TARGET");
});

every("H16 a whiteout before its directory leaves the directory opaque", (layers) => {
  for (const order of [0, 1]) {
    using layer = layers();
    layer.layer(dir("foo", { mode: 0o700 }), file("foo/lower"), dir("foo/sub"), file("foo/sub/lower"));
    const pair = [file(".wh.foo", ""), dir("foo")];
    if (order === 1) pair.reverse();
    const tree = layer.layer(...pair, file("foo/upper"), file("foo/sub/upper"));
    assert.equal(names(tree), "foo foo/sub foo/sub/upper foo/upper");
    assert.equal(tree.get("foo")?.mode, 0o40755);
  }
});

every("H17 a whiteout after its child in one layer: the child stays, what lies below is hidden", (layers) => {
  using layer = layers();
  layer.layer(dir("d"), file("d/x", "lower"), dir("e"), file("e/lower"));
  const tree = layer.layer(file("d/x", "upper"), file("d/.wh.x", ""), file("e/upper"), file(".wh.e", ""));
  assert.equal(tree.get("d/x")?.content, "upper");
  assert.equal(names(tree), "d d/x e e/upper");
});

every("H18 an opaque mark after its siblings keeps them", (layers) => {
  using layer = layers();
  layer.layer(dir("d"), file("d/lower"), dir("d/sub"), file("d/sub/lower"));
  const tree = layer.layer(dir("d"), file("d/upper"), file("d/sub/upper"), file("d/.wh..wh..opq", ""));
  assert.equal(names(tree), "d d/sub d/sub/upper d/upper");
});

every("an opaque mark in the root hides everything below", (layers) => {
  using layer = layers();
  layer.layer(dir("d"), file("d/lower"), file("f"), dir("e"), file("e/lower"));
  assert.equal(names(layer.layer(file("d/upper"), file(".wh..wh..opq", ""), dir("e"))), "d d/upper e");
});

test("H19 GHSA-rp3h-jf77-q9p4: 100,000 whiteouts in deep directories take linear time", () => {
  using ground = new Playground();
  const deep = Array.from({ length: 100 }, (_, i) => `d${i}`).join("/");
  const time = (count: number): number => {
    using layer = new Layers(ground, "overlay");
    const half = Array.from({ length: count / 2 }, (_, i) => i);
    layer.apply(tarOf(...half.map((i) => file(`${deep}/f${i}`, ""))));
    const present = half.map((i) => file(`${deep}/.wh.f${i}`, ""));
    const tar = tarOf(...present, ...half.map((i) => file(`${deep}/x${i}/.wh.f`, "")));
    const start = performance.now();
    layer.apply(tar);
    return performance.now() - start;
  };
  time(1000);
  const small = time(10_000);
  const large = time(100_000);
  assert.ok(large < 25 * small, `${large} ms for ten times what took ${small} ms`);
});

every("H20 a character device 0:0 is refused", (layers) => {
  using layer = layers();
  const error = layer.refused(item("char", "dev/null0", { devMajor: 0, devMinor: 0 }));
  assert.equal(error.code, "TAR_DEVICE");
  assert.match(error.message, /dev\/null0/);
});

every("H21 planted overlay attributes do nothing", (layers) => {
  using layer = layers();
  const planted = (at: string) =>
    new Map(
      ["opaque", "redirect", "metacopy", "whiteout", "origin", "overlay.opaque"].flatMap((name) => [
        [`${at}overlay.${name}`, Buffer.from(name === "redirect" ? "/secret" : "y")] as const,
      ]),
    );
  const xattrs = new Map([...planted("trusted."), ...planted("user."), ["user.kept", Buffer.from("1")] as const]);
  layer.layer(dir("secret"), file("secret/s"), dir("d"), file("d/lower"), file("f", "lower"));
  const tree = layer.layer(dir("d", { xattrs }), file("f", "upper", { xattrs }));
  assert.equal(names(tree), "d d/lower f secret secret/s");
  assert.equal(tree.get("f")?.content, "upper");
  assert.deepEqual(tree.get("d")?.xattrs, { "user.kept": "1" });
  const top = sys.open(layer.paths[0] as string, C.O_PATH | C.O_DIRECTORY);
  assert.deepEqual(sys.llistxattrat(top.fd, "f"), ["user.kept"]);
  top[Symbol.dispose]();
});

every("H22 attributes too large, too many, badly named: an error that names the entry, or left out", (layers) => {
  const withXattrs = (xattrs: Map<string, Buffer>) => file("victim-of-xattrs", "x", { xattrs });
  for (const xattrs of [
    new Map([["user.big", Buffer.alloc(65_536, 1)]]),
    new Map(Array.from({ length: 10_000 }, (_, i) => [`user.n${i}`, Buffer.alloc(64, 1)])),
    new Map([["user.huge", Buffer.alloc(200_000, 1)]]),
  ]) {
    using layer = layers();
    try {
      layer.apply(tarOf(withXattrs(xattrs)));
    } catch (error) {
      assert.match(String(error), /victim-of-xattrs/);
    }
  }
  using layer = layers();
  const bad = new Map(
    ["nonsense", "user.", "system.none", `user.${"n".repeat(300)}`].map((name) => [name, Buffer.from("1")]),
  );
  try {
    assert.deepEqual(layer.layer(withXattrs(bad)).get("victim-of-xattrs")?.xattrs, {});
  } catch (error) {
    assert.match(String(error), /victim-of-xattrs/);
  }
});

// ---- syntax, as far as it concerns the tree

every("H23 CVE-2025-62518: a PAX size hides no entry and shows none", (layers) => {
  using layer = layers();
  const inner = tarOf(file("smuggled"));
  const outer = entryBytes(file("outer", inner.toString("latin1")));
  outer.write("00000000000\0", 124, "latin1");
  fixChecksum(outer);
  const tree = layer.layer(paxBytes(paxRecord("size", String(inner.length))), outer, file("after"));
  assert.equal(names(tree), "after outer");
  assert.equal(tree.get("outer")?.content?.length, inner.length);
});

every("H24 malformed PAX records are refused", (layers) => {
  for (const records of ["999 path=x\n", "3 a\n", "path=x\n", "0 path=x\n", "-5 a=b\n", "12 path=xxxxx"]) {
    using layer = layers();
    assert.equal(layer.refused(paxBytes(records), file("f")).kind, "invalid_argument");
  }
});

every("H25 names of any bytes come back as they were", (layers) => {
  using layer = layers();
  const odd = ["new\nline", "\xff\xfe", "\x01\x7f", "sp ace", "e\xcc\x81", "\\", '"'];
  assert.deepEqual([...layer.layer(...odd.map((name) => file(name))).keys()].sort(), ["", ...odd].sort());
  using other = layers();
  assert.equal(other.refused(paxBytes(paxRecord("path", "a\0b")), file("f")).kind, "invalid_argument");
});

/** A file as GNU tar's PAX 1.0 format stores it: `regions` of one byte each, `stepBytes` apart. */
function sparseFile(regions: number, stepBytes: number): Uint8Array[] {
  const lines = [`${regions}\n`];
  for (let i = 0; i < regions; i++) lines.push(`${i * stepBytes}\n1\n`);
  const map = lines.join("");
  const mapBytes = Buffer.alloc(Math.ceil(map.length / 512) * 512);
  mapBytes.write(map, "latin1");
  const records =
    paxRecord("GNU.sparse.major", "1") +
    paxRecord("GNU.sparse.minor", "0") +
    paxRecord("GNU.sparse.name", "sparse") +
    paxRecord("GNU.sparse.realsize", String(regions * stepBytes + 5000));
  const data = Buffer.concat([mapBytes, Buffer.alloc(regions, 0x61)]);
  return [paxBytes(records), entryBytes(item("file", "GNUSparseFile.0/sparse", { data }))];
}

every("H26 sparse files: holes stay holes, a million regions are written", (layers) => {
  for (const [regions, stepBytes] of [[100, 1_000_000] as const, [1_000_000, 2] as const]) {
    using layer = layers();
    layer.apply(tarOf(...sparseFile(regions, stepBytes)));
    using top = sys.open(layer.paths[0] as string, C.O_PATH | C.O_DIRECTORY);
    const stat = sys.statx(top.fd, "sparse");
    assert.equal(stat.size, regions * stepBytes + 5000);
    assert.ok(stat.blocks * 512 <= 4 * 1024 * 1024, "holes were filled");
  }
});

every("H27 numbers beyond what a file can have", (layers) => {
  for (const [key, value] of [
    ["uid", "4294967296"],
    ["uid", "-1"],
    ["gid", "4294967295"],
    ["gid", "99999999999"],
  ] as const) {
    using layer = layers();
    const error = layer.refused(paxBytes(paxRecord(key, value)), file("owned"));
    assert.equal(error.kind, "invalid_argument");
    assert.match(error.message, /owned/);
  }
  using layer = layers();
  const tree = layer.layer(
    paxBytes(paxRecord("mtime", "-1")),
    file("before1970"),
    paxBytes(paxRecord("mtime", "253402300800")),
    file("year10000"),
    paxBytes(paxRecord("mtime", "-0.25")),
    file("fraction"),
  );
  assert.equal(tree.get("before1970")?.mtime, "-1.0");
  assert.equal(tree.get("fraction")?.mtime, "-1.750000000");
  assert.ok(tree.has("year10000"));
});

if (!isInitialUserns) {
  every("an owner that a user namespace does not map: the error says what is needed", (layers) => {
    using layer = layers();
    const error = layer.refused(file("f", "x", { uid: 12_345 }));
    assert.equal(error.code, "UNMAPPED_OWNER");
    assert.match(error.hint ?? "", /subuid/);
  });
}

every("H28 8 GiB claimed in 1 KiB", (layers) => {
  using layer = layers();
  const bytes = patched(file("big", ""), (block) => block.write("77777777777\0", 124, "latin1"));
  const error = layer.refused(bytes);
  assert.equal(error.code, "TAR_TRUNCATED");
  assert.match(error.message, /big/);
});

every("H29 cut at every 512 bytes: an error, or whole entries", (layers) => {
  const whole = tarOf(
    dir("d"),
    file("d/f", "x".repeat(700)),
    symlink("s", "d"),
    file("d/.wh.g", ""),
    file("é".repeat(90)),
  );
  for (let length = 0; length < whole.length; length += 512) {
    using layer = layers();
    try {
      layer.apply(whole.subarray(0, length));
    } catch (error) {
      assert.match(String(error), /byte [0-9]+/);
    }
  }
});

every("H31 a second archive after the end blocks is not read", (layers) => {
  using layer = layers();
  assert.equal(names(layer.layer(file("first"), Buffer.alloc(1024), file("second"))), "first");
});

every("H32 names and components that are too long", (layers) => {
  for (const name of ["c".repeat(256), `${"n/".repeat(32_000)}f`, `d/${"c".repeat(300)}/f`]) {
    using layer = layers();
    assert.equal(layer.refused(file(name)).code, "ENAMETOOLONG", name.slice(0, 20));
  }
  using layer = layers();
  assert.equal(layer.layer(file(`${"n/".repeat(2000)}f`)).size, 2002);
});

every("H33 one path as directory, file, symbolic link and back", (layers) => {
  using layer = layers();
  layer.layer(dir("p"), file("p/lower"));
  const tree = layer.layer(
    dir("p"),
    file("p/child", "one"),
    file("p", "two"),
    symlink("p", "x"),
    dir("p"),
    file("p/child", "three"),
  );
  assert.equal(names(tree), "p p/child");
  assert.equal(tree.get("p/child")?.content, "three");
  const again = layer.layer(file("p", "a"), file("p", "b"), hardlink("q", "p"), file("p", "c"), file("q", "d"));
  assert.equal(names(again), "p q");
  assert.equal(again.get("p")?.content, "c");
  assert.equal(again.get("q")?.content, "d");
});

every("H34 unknown types, fifos, devices", (layers) => {
  for (const flag of ["D", "M", "V", "Z", "\x7f"]) {
    using layer = layers();
    const bytes = patched(file("odd", ""), (block) => block.write(flag, 156, "latin1"));
    const error = layer.refused(bytes);
    assert.equal(error.code, "TAR_TYPE");
    assert.match(error.message, /odd/);
  }
  using fifo = layers();
  assert.equal(fifo.layer(item("fifo", "p", { mode: 0o622 })).get("p")?.mode, 0o10622);
  using device = layers();
  const tty = [
    item("char", "tty", { devMajor: 5, devMinor: 0, mode: 0o666 }),
    item("block", "disk", { devMajor: 259, devMinor: 300_000, mode: 0o660 }),
  ];
  if (isInitialUserns) {
    const tree = device.layer(...tty);
    assert.equal(tree.get("tty")?.rdev, "5:0");
    assert.equal(tree.get("tty")?.mode, 0o20666);
    assert.equal(tree.get("disk")?.rdev, "259:300000");
  } else {
    const error = device.refused(...tty);
    assert.equal(error.kind, "permission_denied");
    assert.match(error.message, /tty/);
  }
});

every("H35 names that differ by case or normalisation alone stay apart", (layers) => {
  using layer = layers();
  const list = ["File", "FILE", "file", "\xc3\xa9", "e\xcc\x81"];
  assert.equal(layer.layer(...list.map((name) => file(name))).size, 6);
});

// ---- must succeed

every("entries without parents, parents after children, ./ and bare names", (layers) => {
  using layer = layers();
  const tree = layer.layer(
    file("./x/y/z"),
    dir("x/y", { mode: 0o700, mtimeSec: 77 }),
    dir("./x", { mtimeSec: 78 }),
    file("b"),
  );
  assert.equal(names(tree), "b x x/y x/y/z");
  assert.equal(tree.get("x/y")?.mtime, "77.0");
  assert.equal(tree.get("x/y")?.mode, 0o40700);
  assert.equal(tree.get("x")?.mtime, "78.0");
});

every("setuid survives chown, capabilities survive both, directories keep their times", (layers) => {
  using layer = layers();
  const owner = isInitialUserns ? { uid: 33, gid: 44 } : { uid: 0, gid: 0 };
  const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
  const tree = layer.layer(
    dir("d", { mode: 0o2755, mtimeSec: 5, mtimeNsec: 123_456_789, ...owner }),
    file("d/su", "x", { mode: 0o6755, ...owner }),
    file("d/cap", "x", {
      mode: 0o755,
      mtimeNsec: 999_999_999,
      ...owner,
      xattrs: new Map([["security.capability", capability]]),
    }),
    dir("d/ro", { mode: 0o555, mtimeSec: 6 }),
    file("d/ro/f", "y", { mode: 0 }),
  );
  assert.equal(tree.get("d/su")?.mode, 0o106755);
  assert.equal(tree.get("d/su")?.uid, owner.uid);
  assert.ok("security.capability" in (tree.get("d/cap")?.xattrs ?? {}));
  assert.equal(tree.get("d/cap")?.mtime, "1600000000.999999999");
  assert.equal(tree.get("d")?.mtime, "5.123456789");
  assert.equal(tree.get("d")?.mode, 0o42755);
  assert.equal(tree.get("d/ro")?.mtime, "6.0");
  assert.equal(tree.get("d/ro")?.mode, 0o40555);
});

every("default ACLs do not reach what is created after them", (layers, t) => {
  using layer = layers();
  const acl = Buffer.from("0200000001000700ffffffff04000500ffffffff20000000ffffffff", "hex");
  const xattrs = new Map([["system.posix_acl_default", acl]]);
  let tree = layer.layer(dir("d", { xattrs }), file("d/f"), dir("d/s"));
  if (tree.get("d")?.xattrs["system.posix_acl_default"] === undefined) return t.skip("no ACLs on this file system");
  tree = layer.layer(file("d/g"), dir("d/t"));
  for (const name of ["d/f", "d/g", "d/s", "d/t"]) assert.deepEqual(tree.get(name)?.xattrs, {}, name);
  assert.equal(tree.get("d/g")?.mode, 0o100644);
  assert.equal(tree.get("d")?.xattrs["system.posix_acl_default"], acl.toString("latin1"));
});

every("a file becomes a directory and back over three layers", (layers) => {
  using layer = layers();
  layer.layer(file("x", "1"));
  assert.equal(names(layer.layer(dir("x"), file("x/y"))), "x x/y");
  assert.equal(layer.layer(file("x", "3")).get("x")?.content, "3");
  assert.equal(names(layer.layer(dir("x"))), "x");
  assert.equal(names(layer.layer(file("x/implied"))), "x x/implied");
});

every("a hard link whose first name a later layer removes", (layers) => {
  using layer = layers();
  layer.layer(file("a", "data"), hardlink("b", "a"));
  const tree = layer.layer(file(".wh.a", ""));
  assert.equal(names(tree), "b");
  assert.equal(tree.get("b")?.content, "data");
});

every("empty layers, trailing padding, and 130 of them", (layers) => {
  using layer = layers();
  layer.apply(Buffer.alloc(0));
  layer.apply(Buffer.alloc(10_240));
  for (let i = 0; i < 130; i++)
    layer.apply(Buffer.concat([tarOf(file(`f${i % 10}`, String(i))), Buffer.alloc(512 * (i % 30))]));
  assert.equal(layer.tree().size, 11);
});

every("an entry for a directory that is there merges its metadata and does not hide", (layers) => {
  using layer = layers();
  layer.layer(dir("d", { xattrs: new Map([["user.old", Buffer.from("1")]]) }), file("d/f"));
  const tree = layer.layer(dir("d", { mode: 0o700, mtimeSec: 9, xattrs: new Map([["user.new", Buffer.from("2")]]) }));
  assert.equal(names(tree), "d d/f");
  assert.deepEqual(tree.get("d")?.xattrs, { "user.new": "2" });
  assert.equal(tree.get("d")?.mtime, "9.0");
});

test("whiteouts are devices 0:0 and opaque directories carry overlay's attribute", () => {
  using ground = new Playground();
  using layer = new Layers(ground, "overlay");
  layer.layer(dir("d"), file("d/f"), file("g"));
  layer.layer(file(".wh.g", ""), file(".wh.d", ""), dir("d"), file(".wh.none", ""), file("no/.wh.x", ""));
  using top = sys.open(layer.paths[0] as string, C.O_RDONLY | C.O_DIRECTORY);
  assert.deepEqual(
    sys
      .readdir(top.fd)
      .map(({ name }) => name)
      .sort(),
    ["d", "g"],
  );
  const whiteout = sys.statx(top.fd, "g");
  assert.equal(whiteout.mode & C.S_IFMT, C.S_IFCHR);
  assert.equal(whiteout.rdevMajor + whiteout.rdevMinor, 0);
  const opaque = raw.lgetxattrat(top.fd, "d", `${prefix}opaque`);
  assert.equal(String(opaque), "y");
  assert.equal(bytesOfText("d"), "d");
});
