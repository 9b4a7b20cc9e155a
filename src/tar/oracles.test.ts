/**
 * GNU tar and Python's tarfile as oracles, both directions. A real tree is snapshot by Python's os module; GNU tar and
 * tarfile archive it and the reader must see the snapshot; the writer archives it and GNU tar must unpack, and tarfile
 * list, the snapshot.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type TarEntry, TarReader, TarWriter } from "./index.ts";

/** One object, as every party here describes it. `data` is base64; times are decimal nanoseconds. */
interface Described {
  readonly name: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: string;
  readonly link: string;
  readonly dev: string;
  readonly data: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

const snapshotScript = `
import os, sys, stat, json, base64
root = os.fsencode(sys.argv[1]); out = []; seen = {}
kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}
def visit(path, name):
    st = os.lstat(path); kind = kinds[stat.S_IFMT(st.st_mode)]; link = b""; data = b""
    if kind == "symlink": link = os.readlink(path)
    if kind != "directory" and st.st_nlink > 1:
        if st.st_ino in seen: kind = "hardlink"; link = seen[st.st_ino]
        else: seen[st.st_ino] = name
    if kind == "file": data = open(path, "rb").read()
    xattrs = {} if kind == "hardlink" else {k: base64.b64encode(os.getxattr(path, k, follow_symlinks=False)).decode() for k in os.listxattr(path, follow_symlinks=False)}
    out.append(dict(name=name.decode("latin1"), type=kind, mode=st.st_mode & 0o7777, uid=st.st_uid, gid=st.st_gid, mtimeNs=str(st.st_mtime_ns), link=link.decode("latin1"),
        dev=f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}" if kind in ("char", "block") else "0:0", data=base64.b64encode(data).decode(), xattrs=xattrs))
    if kind == "directory":
        for child in sorted(os.listdir(path)): visit(os.path.join(path, child), name + b"/" + child)
visit(root, b".")
json.dump(out, sys.stdout)
`;

const listScript = `
import sys, tarfile, json, base64, decimal
out = []
def raw(s): return s.encode("utf-8", "surrogateescape").decode("latin1")
with tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as tar:
    for m in tar:
        kind = "hardlink" if m.islnk() else "symlink" if m.issym() else "directory" if m.isdir() else "fifo" if m.isfifo() else "char" if m.ischr() else "block" if m.isblk() else "file"
        data = tar.extractfile(m).read() if kind == "file" else b""
        mtime = decimal.Decimal(m.pax_headers.get("mtime", str(int(m.mtime))))
        xattrs = {raw(k[13:]): base64.b64encode(v.encode("utf-8", "surrogateescape")).decode() for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        out.append(dict(name=raw(m.name), type=kind, mode=m.mode & 0o7777, uid=m.uid, gid=m.gid, mtimeNs=str(int(mtime * 1000000000)), link=raw(m.linkname),
            dev=f"{m.devmajor}:{m.devminor}" if kind in ("char", "block") else "0:0", data=base64.b64encode(data).decode(), xattrs=xattrs))
json.dump(out, sys.stdout)
`;

const packScript = `
import sys, tarfile
formats = dict(ustar=tarfile.USTAR_FORMAT, gnu=tarfile.GNU_FORMAT, pax=tarfile.PAX_FORMAT)
with tarfile.open(sys.argv[2], "w", format=formats[sys.argv[3]], encoding="utf-8", errors="surrogateescape") as tar: tar.add(sys.argv[1], ".")
`;

const isRoot = process.getuid?.() === 0;

function python(script: string, ...args: string[]): string {
  return execFileSync("python3", ["-c", script, ...args], { encoding: "utf8", maxBuffer: 1 << 28 });
}

function has(tool: string, pattern: RegExp): boolean {
  const { stdout } = spawnSync(tool, ["--version"], { encoding: "utf8" });
  return pattern.test(stdout ?? "");
}

/** Skips when an oracle is missing. */
function lacks(t: TestContext): boolean {
  if (!has("python3", /Python 3/)) t.skip("python3 is not installed");
  else if (!has("tar", /GNU tar/)) t.skip("tar is not GNU tar");
  else return false;
  return true;
}

/** What trees hold beyond plain files, as far as a format can say it. */
interface TreeOptions {
  readonly hasLongNames?: boolean;
  readonly hasNodes?: boolean;
  readonly hasXattrs?: boolean;
  readonly hasSparse?: boolean;
  /** False: whole seconds, which is all that formats but PAX keep. */
  readonly hasNanoseconds?: boolean;
}

/** Makes a tree with Python, whose names are bytes; xattrs, owners and devices as far as the host allows. */
function makeTree(root: string, options: TreeOptions): void {
  const script = `
import os, sys
o = dict(zip(["long", "nodes", "xattrs", "sparse", "ns", "root"], [a == "1" for a in sys.argv[2:]]))
def may(call, *args):
    try: call(*args)
    except OSError: pass
os.chdir(sys.argv[1]); put = lambda name, data: open(name, "wb").write(data)
os.mkdir(b"dir"); os.mkdir(b"dir/sub", 0o700); os.mkdir(b"empty"); put(b"dir/file", b"hello\\n"); put(b"block", b"x" * 512); put(b"big", bytes(range(256)) * 3000); put(b"zero", b"")
put(b"caf\\xc3\\xa9 \\xff\\xfe\\n'", b"odd name"); os.chmod(b"big", 0o4755); os.chmod(b"empty", 0o1777)
os.symlink(b"dir/file", b"link"); os.symlink(b"/no\\xffwhere", b"dangling"); os.link(b"dir/file", b"hard"); os.mkfifo(b"fifo") if o["nodes"] else None
if o["long"]:
    for n in (99, 100, 101, 155, 156, 200, 250): put(b"n" * n, b"%d" % n)
    d = b"d" * 120; os.mkdir(d); put(d + b"/" + b"f" * 90, b"prefix"); os.mkdir(d + b"/" + d); put(d + b"/" + d + b"/" + b"f" * 100, b"deep")
    os.symlink(b"t" * 300, b"longlink"); os.link(d + b"/" + d + b"/" + b"f" * 100, b"zz-longhard")
if o["nodes"] and o["root"]:
    may(os.mknod, b"chr", 0o020600, os.makedev(1, 3)); may(os.mknod, b"blk", 0o060640, os.makedev(259, 70000)); may(os.chown, b"block", 1234, 2000000); may(os.lchown, b"link", 7, 8)
if o["sparse"]:
    with open(b"holes", "wb") as f:
        for at in (1 << 16, 5 << 16, 9 << 16, 12 << 16, 15 << 16, 20 << 16): f.seek(at); f.write(b"data %d" % at * 300)
        f.truncate(30 << 16)
    with open(b"allhole", "wb") as f: f.truncate(1 << 20)
    with open(b"many", "wb") as f:
        for i in range(200): f.seek(i << 14); f.write(b"%d" % i)
if o["xattrs"]:
    may(os.setxattr, b"big", b"user.text", b"value"); may(os.setxattr, b"big", b"user.bin", bytes(range(256)) + b"=\\n"); may(os.setxattr, b"dir", b"user.%=%25", b"1"); may(os.setxattr, b"zero", b"user.empty", b"")
    if o["root"]: may(os.setxattr, b"block", b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000")); may(lambda: os.setxattr(b"link", b"trusted.t", b"on a link", follow_symlinks=False))
for i, (at, dirs, files) in enumerate(os.walk(b".", topdown=False)):
    for n in files + [b"."]: os.utime(os.path.join(at, n), ns=((1600000000 + i * 77) * 10**9 + (123456780 + i if o["ns"] else 0),) * 2, follow_symlinks=False)
`;
  const { hasLongNames, hasNodes, hasXattrs, hasSparse, hasNanoseconds } = options;
  const flags = [hasLongNames, hasNodes, hasXattrs, hasSparse, hasNanoseconds, isRoot];
  python(script, root, ...flags.map((flag) => (flag ? "1" : "0")));
}

/** Runs `body` in a temporary directory with a tree in `tree/`. */
function withTree(options: TreeOptions, body: (dir: string, tree: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), "lamella-tar-"));
  try {
    const tree = join(dir, "tree");
    execFileSync("mkdir", ["-m", "755", tree, join(dir, "out")]);
    makeTree(tree, options);
    body(dir, tree);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function snapshot(root: string): Described[] {
  return JSON.parse(python(snapshotScript, root));
}

/** Names compare without the final slash and the `./` that tools add. */
function bare(name: string): string {
  const trimmed = name.replace(/\/+$/, "");
  return trimmed.startsWith("./") || trimmed === "." ? trimmed : `./${trimmed}`;
}

/**
 * By name; a hard link takes the data's place or gives it up according to the order of the archive, so both names are
 * compared by what they lead to.
 */
function byName(list: readonly Described[]): Map<string, object> {
  const found = new Map(list.map((d) => [bare(d.name), d]));
  return new Map(
    [...found].sort().map(([name, d]) => {
      const file = d.type === "hardlink" ? (found.get(bare(d.link)) as Described) : d;
      const { name: _, link, ...rest } = file;
      return [name, { ...rest, link: file.type === "symlink" ? link : "" }];
    }),
  );
}

function describeArchive(archive: string): { described: Described[]; entries: TarEntry[] } {
  const entries: TarEntry[] = [];
  const payloads: Buffer[][] = [];
  const reader = new TarReader({
    entry: (entry) => {
      entries.push(entry);
      payloads.push([]);
    },
    data: (bytes) => payloads.at(-1)?.push(Buffer.from(bytes)),
  });
  const bytes = readFileSync(archive);
  for (let at = 0; at < bytes.length; at += 10_007) reader.push(bytes.subarray(at, at + 10_007));
  reader.end();
  assert.equal(reader.ending, "complete");
  const described = entries.map((entry, i): Described => {
    const { name, type, mode, uid, gid } = entry;
    const data = expanded(entry, Buffer.concat(payloads[i] ?? []));
    return {
      ...{ name, type, mode, uid, gid, link: entry.linkName, dev: `${entry.devMajor}:${entry.devMinor}` },
      mtimeNs: String(BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec)),
      data: data.toString("base64"),
      xattrs: Object.fromEntries([...entry.xattrs].sort().map(([key, value]) => [key, value.toString("base64")])),
    };
  });
  return { described, entries };
}

function expanded(entry: TarEntry, stored: Buffer): Buffer {
  if (entry.sparse === undefined) return stored;
  const file = Buffer.alloc(entry.realSize);
  let at = 0;
  for (const { offset, length } of entry.sparse) {
    stored.copy(file, offset, at, at + length);
    at += length;
  }
  return file;
}

function writeArchive(tree: Described[], archive: string): void {
  const writer = new TarWriter();
  const parts: Uint8Array[] = [];
  for (const d of tree) {
    const data = Buffer.from(d.data, "base64");
    const ns = BigInt(d.mtimeNs);
    const [devMajor, devMinor] = d.dev.split(":").map(Number);
    const header = writer.header({
      name: d.name,
      type: d.type as TarEntry["type"],
      ...{ mode: d.mode, uid: d.uid, gid: d.gid, linkName: d.link, size: data.length, devMajor, devMinor },
      mtimeSec: Number(ns / 1_000_000_000n),
      mtimeNsec: Number(ns % 1_000_000_000n),
      xattrs: new Map(Object.entries(d.xattrs).map(([name, value]) => [name, Buffer.from(value, "base64")])),
    });
    parts.push(header, data, writer.padding(data.length));
  }
  writeFileSync(archive, Buffer.concat([...parts, writer.end()]));
}

const formats: readonly [string, TreeOptions, ...string[]][] = [
  ["v7", {}],
  ["ustar", { hasNodes: true }],
  ["oldgnu", { hasNodes: true, hasLongNames: true, hasSparse: true }],
  ["gnu", { hasNodes: true, hasLongNames: true, hasSparse: true }],
  [
    "pax",
    { hasNodes: true, hasLongNames: true, hasXattrs: true, hasNanoseconds: true },
    "--xattrs",
    "--xattrs-include=*",
  ],
  ...["0.0", "0.1", "1.0"].map((version): [string, TreeOptions, ...string[]] => {
    return ["pax", { hasNanoseconds: true, hasLongNames: true, hasSparse: true }, `--sparse-version=${version}`];
  }),
];

describe("oracles: what others write, the reader sees", () => {
  for (const [format, options, ...args] of formats) {
    test(`GNU tar --format=${[format, ...args].join(" ")}`, (t) => {
      if (lacks(t)) return;
      withTree(options, (dir, tree) => {
        const archive = join(dir, "a.tar");
        const sparse = options.hasSparse ? ["-S"] : [];
        execFileSync("tar", ["-C", tree, `--format=${format}`, ...args, ...sparse, "-cf", archive, "."]);
        const { described, entries } = describeArchive(archive);
        assert.deepEqual(byName(described), byName(snapshot(tree)));
        const expected = options.hasSparse ? ["allhole", "holes", "many"] : [];
        const isSparse = (entry: TarEntry) => entry.sparse !== undefined;
        assert.deepEqual(
          entries
            .filter(isSparse)
            .map((e) => e.name.slice(2))
            .sort(),
          expected,
        );
      });
    });
  }

  for (const format of ["ustar", "gnu", "pax"]) {
    test(`tarfile ${format}`, (t) => {
      if (lacks(t)) return;
      const isPax = format === "pax";
      withTree({ hasNodes: true, hasLongNames: format !== "ustar" }, (dir, tree) => {
        const archive = join(dir, "a.tar");
        python(packScript, tree, archive, format);
        const { described } = describeArchive(archive);
        // tarfile writes what is not UTF-8 in its own way in PAX headers; the tree's names are compared as it lists them.
        const expected = isPax ? JSON.parse(python(listScript, archive)) : snapshot(tree);
        assert.deepEqual([...byName(described).values()], [...byName(expected).values()]);
      });
    });
  }
});

describe("oracles: what the writer writes, others see", () => {
  const everything = { hasNodes: true, hasLongNames: true, hasXattrs: true, hasSparse: true, hasNanoseconds: true };

  test("GNU tar unpacks the same tree", (t) => {
    if (lacks(t)) return;
    withTree(everything, (dir, tree) => {
      const before = snapshot(tree);
      const [archive, out] = [join(dir, "a.tar"), join(dir, "out")];
      writeArchive(before, archive);
      const options = ["--numeric-owner", "-p", "--xattrs", "--xattrs-include=*"];
      execFileSync("tar", ["-C", out, ...options, "-xf", archive], { stdio: ["ignore", "ignore", "inherit"] });
      assert.deepEqual(byName(snapshot(out)), byName(before));
      assert.deepEqual(
        describeArchive(archive).described.map((d) => ({ ...d, name: bare(d.name) })),
        before,
      );
    });
  });

  test("tarfile lists the same tree", (t) => {
    if (lacks(t)) return;
    withTree({ ...everything, hasXattrs: false }, (dir, tree) => {
      const before = snapshot(tree);
      const archive = join(dir, "a.tar");
      writeArchive(before, archive);
      assert.deepEqual(byName(JSON.parse(python(listScript, archive))), byName(before));
    });
  });
});
