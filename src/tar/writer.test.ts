import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type TarEntry, type TarEntryType, type TarHeader, TarReader, TarWriter } from "./index.ts";

const writer = new TarWriter();
const value = Buffer.from("\x01\0\0\x02=\n\xff", "latin1");
const base: TarHeader = { name: "f", type: "file", mode: 0o644, uid: 0, gid: 0, mtimeSec: 0 };

function decode(...parts: Uint8Array[]): TarEntry {
  const entries: TarEntry[] = [];
  const reader = new TarReader({ entry: (entry) => entries.push(entry) });
  for (const part of parts) reader.push(part);
  reader.push(writer.end());
  reader.end();
  assert.equal(entries.length, 1);
  return entries[0] as TarEntry;
}

/** The records of the PAX header that `blocks` starts with. */
function recordsOf(blocks: Buffer): string[] {
  if (blocks[156] !== 0x78) return [];
  const size = Number.parseInt(blocks.toString("latin1", 124, 135), 8);
  return blocks
    .toString("latin1", 512, 512 + size)
    .split("\n")
    .slice(0, -1);
}

/** What a record's length must be: the one that counts itself. */
function recordLength(key: string, value: string): number {
  const rest = ` ${key}=${value}\n`.length;
  return [1, 2, 3, 4].map((digits) => rest + digits).find((n) => String(n).length + rest === n) as number;
}

describe("TarWriter", () => {
  test("encode ∘ decode is the identity", () => {
    const byteString = (maxLength: number, minLength = 1) =>
      fc.oneof(
        fc.string({ unit: fc.integer({ min: 1, max: 0xff }).map((c) => String.fromCharCode(c)), minLength, maxLength }),
        fc.string({ unit: fc.constantFrom("a", "b", "/", "%", "=", "."), minLength, maxLength }),
      );
    const id = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(0o7777777, 0o7777777 + 1, -1));
    const xattrs = fc
      .array(fc.tuple(byteString(40), fc.uint8Array({ maxLength: 300 })), { maxLength: 5 })
      .map((pairs) => new Map(pairs.map(([name, value]) => [name, Buffer.from(value)])));
    const header = fc.record({
      name: byteString(400),
      type: fc.constantFrom<TarEntryType>("file", "hardlink", "symlink", "char", "block", "directory", "fifo"),
      mode: fc.nat(0o7777),
      uid: id,
      gid: id,
      mtimeSec: fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.constantFrom(0o77777777777, 0o77777777777 + 1, -1)),
      mtimeNsec: fc.oneof(fc.constant(0), fc.nat(999_999_999)),
      linkName: byteString(200, 0),
      device: fc.tuple(fc.nat(0o7777777), fc.nat(0o7777777)),
      xattrs,
    });
    fc.assert(
      fc.property(header, ({ device, ...fields }) => {
        fc.pre(fields.type === "directory" || !fields.name.endsWith("/"));
        const isDevice = fields.type === "char" || fields.type === "block";
        const [devMajor, devMinor] = isDevice ? device : [0, 0];
        const blocks = writer.header({ ...fields, devMajor, devMinor });
        assert.equal(blocks.length % 512, 0);
        const entry = decode(blocks);
        const isBare = fields.type === "directory" && !fields.name.endsWith("/");
        const expected = { ...fields, devMajor, devMinor, name: isBare ? `${fields.name}/` : fields.name };
        for (const [key, value] of Object.entries(expected))
          assert.deepEqual(entry[key as keyof TarEntry], value, `${key}`);
        assert.deepEqual(writer.header(entry), blocks);
      }),
      { numRuns: 1000 },
    );
  });

  test("sizes: octal up to 8 GiB - 1, a PAX record beyond; padding fills the last block", () => {
    const cut = (size: number) => {
      const entries: TarEntry[] = [];
      new TarReader({ entry: (e) => entries.push(e) }).push(writer.header({ ...base, size }));
      return entries[0]?.size;
    };
    const eightGiB = 8 * 1024 ** 3;
    for (const size of [0, 1, eightGiB - 1, eightGiB, Number.MAX_SAFE_INTEGER]) assert.equal(cut(size), size);
    assert.deepEqual(recordsOf(writer.header({ ...base, size: eightGiB - 1 })), []);
    assert.deepEqual(recordsOf(writer.header({ ...base, size: eightGiB })), ["19 size=8589934592"]);
    assert.deepEqual(
      [0, 1, 511, 512, 513].map((size) => writer.padding(size).length),
      [0, 511, 1, 0, 511],
    );
    assert.deepEqual(writer.end(), Buffer.alloc(1024));
  });

  test("a plain entry is one ustar block, byte for byte", () => {
    const block = writer.header({ ...base, name: "etc/passwd", size: 0o1234, uid: 5, gid: 6, mtimeSec: 0o7654321 });
    const expected = Buffer.alloc(512);
    for (const [at, text] of [
      [0, "etc/passwd"],
      [100, "0000644\x000000005\x000000006\x0000000001234\x0000007654321"],
      [148, "011253\0 0"],
      [257, "ustar\x0000"],
      [329, "0000000\x000000000"],
    ] as const)
      expected.write(text, at, "latin1");
    assert.equal(block.toString("latin1"), expected.toString("latin1"));
  });

  test("names: in a ustar prefix where they fit, else in a PAX path", () => {
    const dir = "d".repeat(99);
    for (const [name, needsPax, inHeader] of [
      ["n".repeat(100), false, "n".repeat(100)],
      ["n".repeat(101), true, "n".repeat(100)],
      [`${dir}/${"n".repeat(100)}`, false, "n".repeat(100)],
      [`${dir}/${"n".repeat(101)}`, true, dir],
      [`${"p".repeat(155)}/${"n".repeat(100)}`, false, "n".repeat(100)],
      [`${"p".repeat(156)}/${"n".repeat(99)}`, true, "p".repeat(100)],
      [`${"d".repeat(98)}//${"n".repeat(200)}`, true, "d".repeat(98)],
      ["caf\xc3\xa9", true, "caf"],
      [`${"d".repeat(50)}/\xe9/${"n".repeat(60)}`, true, `${"d".repeat(50)}//${"n".repeat(48)}`],
    ] as const) {
      const blocks = writer.header({ ...base, name });
      assert.deepEqual(recordsOf(blocks), needsPax ? [`${recordLength("path", name)} path=${name}`] : []);
      assert.equal(
        blocks
          .toString("latin1", blocks.length - 512)
          .slice(0, 100)
          .replace(/\0+$/, ""),
        inHeader,
      );
      assert.equal(decode(blocks).name, name);
    }
    // Once there is a PAX header, it has the name whole.
    const long = `${dir}/${"n".repeat(50)}`;
    const records = recordsOf(writer.header({ ...base, name: long, mtimeNsec: 1 }));
    assert.deepEqual(records, ["21 mtime=0.000000001", `${recordLength("path", long)} path=${long}`]);
  });

  test("the bytes are those of Go's archive/tar in its PAX format, which Docker writes", () => {
    const headers: Partial<TarHeader>[] = [
      { name: "plain", size: 5, uid: 1000, gid: 100, mode: 0o4755, mtimeSec: 1_700_000_000 },
      { name: "dir/", type: "directory", mtimeSec: 1, mtimeNsec: 20 },
      { name: `${"d".repeat(60)}/${"e".repeat(60)}/`, type: "directory" },
      { name: `//a/../${"n".repeat(150)}`, uid: 5_000_000_000, gid: 2_097_152 },
      { name: "caf\xc3\xa9/\xff", size: 8 * 1024 ** 3, mtimeSec: -1, mtimeNsec: 500_000_000 },
      { name: "link", type: "symlink", linkName: `../${"t".repeat(120)}` },
      { name: "hard", type: "hardlink", linkName: "plain" },
      { name: "null", type: "char", devMajor: 1, devMinor: 3, mode: 0o666 },
      { name: "disk", type: "block", devMajor: 259, devMinor: 1_048_575, xattrs: new Map([["user.z", value]]) },
      { name: "pipe", type: "fifo", mtimeSec: 2 ** 33 },
      {
        name: "x",
        xattrs: new Map([
          ["security.capability", value],
          ["user.50%", Buffer.alloc(0)],
        ]),
      },
    ];
    const bytes = Buffer.concat(headers.map((fields) => writer.header({ ...base, ...fields })));
    // Recorded from go1.19: tar.Header with these fields, Format: tar.FormatPAX, xattrs as PAXRecords.
    assert.equal(
      createHash("sha256").update(bytes).digest("hex"),
      "4681a154ab607a114c9386760b81d94b6bf0bc0e9a77d857e64d07fee4a4c152",
    );
  });

  test("a directory's name ends with a slash, once", () => {
    assert.equal(decode(writer.header({ ...base, name: "d", type: "directory" })).name, "d/");
    assert.equal(decode(writer.header({ ...base, name: "d/", type: "directory" })).name, "d/");
  });

  test("the same entry gives the same bytes whatever order its xattrs come in", () => {
    const pairs: [string, Buffer][] = [
      ["user.b", Buffer.from("\0\n=\xff", "latin1")],
      ["user.a", Buffer.from("1")],
      ["security.capability", Buffer.alloc(20)],
    ];
    const forward = writer.header({ ...base, mtimeNsec: 5e8, xattrs: new Map(pairs) });
    assert.deepEqual(writer.header({ ...base, mtimeNsec: 5e8, xattrs: new Map(pairs.toReversed()) }), forward);
    const keys = recordsOf(forward).map((record) => record.replace(/^\d+ /, "").replace(/=.*/s, ""));
    assert.deepEqual(
      keys.filter((key) => /^[\w.]{5,}$/.test(key)),
      ["SCHILY.xattr.security.capability", "SCHILY.xattr.user.a", "SCHILY.xattr.user.b", "mtime"],
    );
  });

  test("what tar cannot say is refused by name", () => {
    const bad: Partial<TarHeader>[] = [
      { name: "a\0b" },
      { name: "" },
      { name: "a/" },
      { name: "a/", type: "symlink" },
      { name: "\u{1f600}" },
      { linkName: "a\0b" },
      { type: "unknown" },
      { type: "symlink", size: 1 },
      { size: -1 },
      { size: 1.5 },
      { mode: 0o100644 },
      { uid: Number.NaN },
      { mtimeSec: 0.5 },
      { mtimeNsec: 1e9 },
      { type: "char", devMajor: 0o10000000 },
      { sparse: [] },
      { xattrs: new Map([["", Buffer.alloc(0)]]) },
      { xattrs: new Map([["user.\0", Buffer.alloc(0)]]) },
    ];
    for (const fields of bad)
      assert.throws(() => writer.header({ ...base, ...fields }), {
        kind: "invalid_argument",
        code: "TAR_UNWRITABLE",
        message: /^tar entry "/,
      });
  });
});
