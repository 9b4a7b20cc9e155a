import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { LamellaError } from "../errors/lamella-error.ts";
import { paddingOf } from "./fields.ts";
import { type TarEntry, type TarHandler, TarReader, type TarReaderLimits, TarWriter } from "./index.ts";
import { formatPaxRecord } from "./pax.ts";

/** A header block with the fields given as they are, and the right checksum unless told otherwise. */
function block(fields: {
  name?: string;
  flag?: string;
  size?: string | number;
  mode?: string;
  uid?: string;
  mtime?: string;
  link?: string;
  magic?: string;
  major?: string;
  tail?: readonly [number, string][];
  checksum?: string;
}): Buffer {
  const b = Buffer.alloc(512);
  const put = (at: number, text: string) => b.write(text, at, "latin1");
  put(0, fields.name ?? "f");
  put(100, fields.mode ?? "0000644");
  put(108, fields.uid ?? "0000000");
  put(116, "0000000");
  put(124, typeof fields.size === "string" ? fields.size : (fields.size ?? 0).toString(8).padStart(11, "0"));
  put(136, fields.mtime ?? "00000000000");
  put(156, fields.flag ?? "0");
  put(157, fields.link ?? "");
  put(257, fields.magic ?? "ustar\x0000");
  if (fields.major !== undefined) put(329, fields.major);
  for (const [at, text] of fields.tail ?? []) put(at, text);
  b.fill(0x20, 148, 156);
  const sum = b.reduce((a, c) => a + c, 0);
  put(148, fields.checksum ?? `${sum.toString(8).padStart(6, "0")}\0 `);
  return b;
}

const gnuMagic = "ustar  \0";
const end = Buffer.alloc(1024);

function padded(data: string | Buffer): Buffer {
  const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data;
  return Buffer.concat([bytes, Buffer.alloc(paddingOf(bytes.length))]);
}

function extension(flag: string, data: string | Buffer, magic?: string): Buffer {
  return Buffer.concat([block({ name: "ext", flag, size: data.length, ...(magic && { magic }) }), padded(data)]);
}

function pax(...records: [string, string][]): Buffer {
  return extension("x", records.map(([key, value]) => formatPaxRecord(key, value)).join(""));
}

interface Reading {
  readonly entries: TarEntry[];
  /** Payload by entry. */
  readonly payloads: string[];
  /** Everything delivered, consecutive pieces of a kind joined. */
  readonly events: [string, string][];
  readonly reader: TarReader;
}

/** Reads pieces; checks on the way that `raw` and `data` make up the input. */
function read(pieces: readonly Uint8Array[], limits?: TarReaderLimits): Reading {
  const entries: TarEntry[] = [];
  const payloads: string[] = [];
  const events: [string, string][] = [];
  const add = (kind: string, bytes: Uint8Array) => {
    assert.ok(bytes.length > 0);
    const text = Buffer.from(bytes).toString("latin1");
    const last = events.at(-1);
    if (last?.[0] === kind) last[1] += text;
    else events.push([kind, text]);
  };
  const handler: TarHandler = {
    raw: (bytes) => add("raw", bytes),
    entry: (entry) => {
      entries.push(entry);
      payloads.push("");
      events.push(["entry", JSON.stringify({ ...entry, xattrs: [...entry.xattrs] })]);
    },
    data: (bytes) => {
      payloads.push((payloads.pop() ?? "") + Buffer.from(bytes).toString("latin1"));
      add("data", bytes);
    },
    endEntry: (entry) => {
      assert.equal(entry, entries.at(-1));
      assert.equal(entry.size, payloads.at(-1)?.length);
      events.push(["end", entry.name]);
    },
  };
  const reader = new TarReader(handler, limits);
  for (const piece of pieces) reader.push(piece);
  reader.end();
  const bytes = events.filter(([kind]) => kind === "raw" || kind === "data").map(([, text]) => text);
  assert.equal(bytes.join(""), Buffer.concat(pieces).toString("latin1"));
  return { entries, payloads, events, reader };
}

function readOne(...pieces: Buffer[]): TarEntry {
  const { entries } = read([Buffer.concat([...pieces, end])]);
  assert.equal(entries.length, 1);
  return entries[0] as TarEntry;
}

function refuses(pieces: readonly Uint8Array[], code: string, message: RegExp, limits?: TarReaderLimits): void {
  assert.throws(
    () => read(pieces, limits),
    (error: unknown) => {
      assert.ok(error instanceof LamellaError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      return true;
    },
  );
}

/** An archive with every kind of header, for the tests that cut it up. */
function motley(): Buffer {
  const writer = new TarWriter();
  const base = { mode: 0o644, uid: 1, gid: 2, mtimeSec: 5 };
  return Buffer.concat([
    writer.header({ ...base, name: "dir", type: "directory" }),
    writer.header({ ...base, name: "dir/file", type: "file", size: 700, mtimeNsec: 7 }),
    padded("d".repeat(700)),
    extension("g", formatPaxRecord("uname", "someone")),
    writer.header({ ...base, name: "x".repeat(300), type: "file", size: 3, xattrs: new Map([["user.a", end]]) }),
    padded("abc"),
    extension("L", `${"l".repeat(600)}\0`, gnuMagic),
    extension("K", "t\0", gnuMagic),
    block({ flag: "2", magic: gnuMagic }),
    block({
      name: "sparse",
      flag: "S",
      size: 5,
      magic: gnuMagic,
      tail: oldSparseTail(
        [
          [1, 2],
          [9, 3],
        ],
        20,
      ),
    }),
    padded("12345"),
    pax(["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "99"]),
    block({ name: "s1", size: 512 + 4 }),
    padded("1\n10\n4\n"),
    padded("wxyz"),
    writer.header({ ...base, name: "empty", type: "file" }),
    end,
    Buffer.from("what follows"),
  ]);
}

function oldSparseTail(regions: readonly [number, number][], realSize: number, isExtended = false): [number, string][] {
  const octal = (value: number) => value.toString(8).padStart(11, "0");
  const tail: [number, string][] = [[483, octal(realSize)]];
  regions.forEach(([offset, length], i) => {
    tail.push([386 + i * 24, octal(offset)], [386 + i * 24 + 12, octal(length)]);
  });
  if (isExtended) tail.push([482, "\x01"]);
  return tail;
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let start = 0;
  for (const position of [...at].sort((a, b) => a - b)) {
    pieces.push(bytes.subarray(start, position));
    start = position;
  }
  return [...pieces, bytes.subarray(start)];
}

describe("TarReader: chunking", () => {
  const archive = motley();
  const whole = read([archive]).events;

  test("one byte at a time gives the same events", () => {
    assert.deepEqual(read(cut(archive, [...archive.keys()])).events, whole);
  });

  test("any chunking gives the same events", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(archive.length), { maxLength: 40 }), (at) => {
        assert.deepEqual(read(cut(archive, at)).events, whole);
      }),
    );
  });

  test("a damaged archive fails alike however it is cut", () => {
    const failure = (pieces: Buffer[]) => {
      try {
        return read(pieces).events.length;
      } catch (error) {
        return String(error);
      }
    };
    fc.assert(
      fc.property(
        fc.nat(archive.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.array(fc.nat(archive.length), { maxLength: 10 }),
        (at, value, cuts) => {
          const damaged = Buffer.from(archive);
          damaged[at] = value;
          assert.equal(failure(cut(damaged, cuts)), failure([damaged]));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a plain Uint8Array is as good as a Buffer, and an error is final", () => {
    assert.deepEqual(read([new Uint8Array(archive)]).events, whole);
    const reader = new TarReader({ entry: () => {} });
    assert.throws(() => reader.push(Buffer.alloc(512, 1)), { code: "TAR_CHECKSUM" });
    assert.throws(() => reader.push(end), { code: "TAR_CHECKSUM" });
    assert.throws(() => reader.end(), { code: "TAR_CHECKSUM" });
  });
});

describe("TarReader: dialects", () => {
  test("v7: no owner names, no prefix; a trailing slash makes a directory without payload", () => {
    const junk: [number, string][] = [
      [265, "junk"],
      [345, "junk"],
    ];
    const entry = readOne(block({ name: "d/", flag: "\0", size: 512, magic: "", tail: junk }));
    assert.deepEqual([entry.name, entry.type, entry.uname, entry.size], ["d/", "directory", "", 0]);
  });

  test("ustar and star prefixes, and Go's old prefix under GNU's magic", () => {
    assert.equal(readOne(block({ tail: [[345, "a/b"]] })).name, "a/b/f");
    assert.equal(
      readOne(
        block({
          tail: [
            [345, "a"],
            [476, "00000000000"],
            [508, "tar\0"],
          ],
        }),
      ).name,
      "a/f",
    );
    assert.equal(readOne(block({ magic: gnuMagic, tail: [[345, "some/prefix"]] })).name, "some/prefix/f");
    assert.equal(readOne(block({ magic: gnuMagic, tail: [[345, "00000000017"]] })).name, "f");
  });

  test("links, directories, devices and fifos have no payload whatever their size says", () => {
    for (const flag of "123456") assert.equal(readOne(block({ flag, size: 2048 })).size, 0);
  });

  test("H34: unknown typeflags are delivered with their payload", () => {
    for (const flag of ["A", "Z", "D", "V", "8", "\xff"]) {
      const { entries, payloads } = read([Buffer.concat([block({ flag, size: 3 }), padded("abc"), end])]);
      assert.deepEqual([entries[0]?.type, entries[0]?.typeflag, payloads], ["unknown", flag.charCodeAt(0), ["abc"]]);
    }
  });

  test("of PAX headers in a row the last counts; a GNU long name wins over a PAX path", () => {
    const first = pax(["path", "p"], ["mtime", "9.5"]);
    assert.equal(readOne(first, pax(["gid", "7"]), block({})).name, "f");
    assert.equal(readOne(first, extension("L", "long\0", gnuMagic), block({ magic: gnuMagic })).name, "long");
    assert.equal(readOne(extension("L", "long\0", gnuMagic), first, block({ magic: gnuMagic })).name, "long");
  });

  test("a global header holds for all that follow, a local one wins, an empty value takes it back", () => {
    const global = extension("g", ["mtime=77.5", "uname=u", "comment=x"].map(paxLine).join(""));
    const { entries } = read([
      Buffer.concat([global, block({}), pax(["mtime", "3"], ["uname", ""]), block({}), block({}), global, end]),
    ]);
    assert.deepEqual(
      entries.map((e) => [e.mtimeSec, e.mtimeNsec, e.uname]),
      [
        [77, 500_000_000, "u"],
        [3, 0, ""],
        [77, 500_000_000, "u"],
      ],
    );
    for (const key of ["path", "linkpath", "size", "SCHILY.xattr.user.a", "GNU.sparse.map"])
      refuses([extension("g", formatPaxRecord(key, "1"))], "TAR_MALFORMED", /global PAX header/);
  });

  test("xattrs: binary values, empty values, escaped names; libarchive's where Schily's is missing", () => {
    const value = Buffer.from([...Array(256).keys()]).toString("latin1");
    const entry = readOne(
      pax(
        ["LIBARCHIVE.xattr.user.b%3d", "AAEC"],
        ["LIBARCHIVE.xattr.user.a", "eA"],
        ["SCHILY.xattr.user.a", value],
        ["SCHILY.xattr.user.e", ""],
        ["SCHILY.xattr.user.%3D%25%41", "1"],
      ),
      block({}),
    );
    assert.deepEqual(
      [...entry.xattrs].map(([name, v]) => [name, v.toString("latin1")]),
      [
        ["user.a", value],
        ["user.e", ""],
        ["user.=%%41", "1"],
        ["user.b=", "\0\x01\x02"],
      ],
    );
  });

  test("offsets tell where the entry starts, extension headers included, and where its payload does", () => {
    const entry = readOne(pax(["path", "p"]), block({ size: 1 }), padded("x"));
    assert.deepEqual([entry.headerOffset, entry.dataOffset], [0, 1536]);
  });
});

function paxLine(pair: string): string {
  const equals = pair.indexOf("=");
  return formatPaxRecord(pair.slice(0, equals), pair.slice(equals + 1));
}

describe("TarReader: sparse files", () => {
  const twoRegions = {
    regions: [
      { offset: 1, length: 2 },
      { offset: 9, length: 3 },
    ],
    realSize: 20,
  };
  const map = "1,2,9,3";

  test("the four formats say the same", () => {
    const name: [string, string] = ["GNU.sparse.name", "real"];
    const cases = [
      [
        block({
          name: "real",
          flag: "S",
          size: 5,
          magic: gnuMagic,
          tail: oldSparseTail(
            [
              [1, 2],
              [9, 3],
            ],
            20,
          ),
        }),
      ],
      [
        pax(
          ["GNU.sparse.size", "20"],
          ["path", "real"],
          ...map.split(",").map((n, i): [string, string] => [i % 2 ? "GNU.sparse.numbytes" : "GNU.sparse.offset", n]),
        ),
        block({ size: 5 }),
      ],
      [pax(["GNU.sparse.size", "20"], name, ["GNU.sparse.map", map]), block({ size: 5 })],
      [
        pax(["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "20"], name),
        block({ size: 517 }),
        padded(`2\n${map.replaceAll(",", "\n")}\n`),
      ],
    ];
    for (const headers of cases) {
      const { entries, payloads } = read([Buffer.concat([...headers, padded("abcde"), end])]);
      const [entry] = entries;
      assert.deepEqual([entry?.name, entry?.size, entry?.realSize], ["real", 5, 20]);
      assert.deepEqual(entry?.sparse, twoRegions.regions);
      assert.deepEqual(payloads, ["abcde"]);
      assert.equal(entry?.dataOffset, Buffer.concat(headers).length);
    }
  });

  test("H26: a million regions in every format, in linear time; one more is refused", () => {
    const count = 1_000_000;
    const numbers: number[] = [];
    for (let i = 0; i < count; i++) numbers.push(i * 2, 1);
    const realSize = ["GNU.sparse.realsize", String(count * 2)] as [string, string];
    const data = padded("x".repeat(count));
    const lines = padded(`${count}\n${numbers.join("\n")}\n`);
    const version: [string, string][] = [
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
    ];
    const oldBlocks: Buffer[] = [
      block({ flag: "S", size: count, magic: gnuMagic, tail: oldSparseTail([], count * 2, true) }),
    ];
    for (let i = 0; i < count; i += 21) {
      const b = Buffer.alloc(512);
      for (let k = 0; k < 21 && i + k < count; k++) {
        b.write(((i + k) * 2).toString(8).padStart(11, "0"), k * 24, "latin1");
        b.write("00000000001", k * 24 + 12, "latin1");
      }
      if (i + 21 < count) b[504] = 1;
      oldBlocks.push(b);
    }
    const archives = [
      Buffer.concat([pax(realSize, ["GNU.sparse.map", numbers.join(",")]), block({ size: count }), data, end]),
      Buffer.concat([pax(realSize, ...version), block({ size: lines.length + count }), lines, data, end]),
      Buffer.concat([...oldBlocks, data, end]),
    ];
    for (const archive of archives) {
      const started = performance.now();
      const seen: (number | undefined)[] = [];
      const reader = new TarReader({ entry: (e) => seen.push(e.sparse?.length) });
      reader.push(archive);
      reader.end();
      assert.deepEqual(seen, [count]);
      assert.ok(performance.now() - started < 10_000, "a quadratic reader would take hours");
      refuses([archive], "TAR_MALFORMED", /more than 999999 regions/, { sparseRegions: count - 1 });
    }
  });

  test("maps that overlap, overrun, do not match the data, or are not numbers are refused", () => {
    const size20: [string, string] = ["GNU.sparse.size", "20"];
    for (const bad of ["5,2,4,1", "1,2,9,30", "1,2", "1,2,9", "1,,2", "-1,5", "a,b", "1,99999999999999999999"])
      refuses([pax(size20, ["GNU.sparse.map", bad]), block({ size: 5 }), end], "TAR_MALFORMED", /sparse/);
    const version: [string, string][] = [
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
    ];
    const realSize: [string, string] = ["GNU.sparse.realsize", "20"];
    for (const bad of ["", "2\n1\n2\n", "x\n", "\n", "99999999999999999\n", "1\n1\n2\n"])
      refuses([pax(realSize, ...version), block({ size: 512 }), padded(bad), end], "TAR_MALFORMED", /sparse/);
    refuses([pax(...version), block({ size: 512 }), end], "TAR_MALFORMED", /real size/);
    refuses([pax(realSize, ["GNU.sparse.major", "2"]), block({}), end], "TAR_MALFORMED", /version/);
    refuses([pax(realSize, ["GNU.sparse.map", "0,0"]), block({ flag: "5" }), end], "TAR_MALFORMED", /directory/);
    refuses([pax(["GNU.sparse.numbytes", "1"]), end], "TAR_MALFORMED", /out of turn/);
    refuses([block({ flag: "S" }), end], "TAR_MALFORMED", /magic/);
  });
});

describe("TarReader: hostile and unusual syntax", () => {
  test("H23 CVE-2025-62518: a PAX size hides the payload it covers, an archive within it stays payload", () => {
    const inner = Buffer.concat([block({ name: "smuggled" }), end]);
    const { entries, payloads } = read([
      Buffer.concat([pax(["size", String(inner.length)]), block({ name: "outer", size: 0 }), inner, end]),
    ]);
    assert.deepEqual(
      entries.map((e) => [e.name, e.size]),
      [["outer", inner.length]],
    );
    assert.equal(payloads[0], inner.toString("latin1"));
  });

  test("H23 CVE-2026-53655: a PAX size belongs to the entry, not to a header between", () => {
    const { entries, payloads } = read([
      Buffer.concat([
        pax(["size", "4"]),
        extension("L", "long-name\0", gnuMagic),
        block({ size: 1024, magic: gnuMagic }),
        padded("abcd"),
        block({ name: "next" }),
        end,
      ]),
    ]);
    assert.deepEqual(
      entries.map((e) => e.name),
      ["long-name", "next"],
    );
    assert.deepEqual(payloads, ["abcd", ""]);
  });

  test("H23: a PAX size that is none", () => {
    for (const size of ["-1", "1.5", "0x10", "99999999999999999999", " 1"])
      refuses([pax(["size", size]), block({})], "TAR_MALFORMED", /PAX size/);
  });

  test("H24: malformed PAX record lengths", () => {
    const bad = [
      "5 a=b\n",
      "7 a=b\n",
      "+6 a=b\n",
      "-6 a=b\n",
      "99 a=b\n",
      "0 a=b\n",
      " a=b\n",
      "6a=b\n",
      "4 =\n",
      "6 =ab\n",
      "6 abc\n",
      "6 a=bc",
      "99999999999999999999 a=b\n",
      "6 a=b\n\0\0",
      "6",
      "3 \n",
    ];
    for (const data of bad) refuses([extension("x", data), block({}), end], "TAR_MALFORMED", /PAX record/);
  });

  test("H25: a NUL in a PAX name is refused; newlines and bytes that are not UTF-8 are kept", () => {
    for (const key of ["path", "linkpath", "GNU.sparse.name"]) refuses([pax([key, "a\0b"])], "TAR_MALFORMED", /NUL/);
    assert.equal(readOne(pax(["path", "a\n\xff\xfe=b"]), block({})).name, "a\n\xff\xfe=b");
    assert.equal(readOne(block({ name: "a\n\xe9" })).name, "a\n\xe9");
  });

  test("H27: base-256, negative and far numbers", () => {
    const base256 = (value: bigint, length: number) => {
      let text = "";
      for (let i = 0; i < length; i++) text = String.fromCharCode(Number((value >> BigInt(8 * i)) & 0xffn)) + text;
      return String.fromCharCode(text.charCodeAt(0) | 0x80) + text.slice(1);
    };
    const far = 253_402_300_800; // year 10,000
    assert.equal(readOne(block({ mtime: base256(BigInt(far), 12) })).mtimeSec, far);
    assert.equal(readOne(block({ mtime: base256(-1n, 12) })).mtimeSec, -1);
    assert.equal(readOne(block({ mtime: base256(-62_135_596_800n, 12) })).mtimeSec, -62_135_596_800);
    assert.equal(readOne(block({ uid: base256(5_000_000_000n, 8) })).uid, 5_000_000_000);
    assert.equal(readOne(pax(["uid", "5000000000"]), block({})).uid, 5_000_000_000);
    for (const [text, sec, nsec] of [
      ["-1", -1, 0],
      ["-0.5", -1, 500_000_000],
      ["-1.000000001", -2, 999_999_999],
      ["1.9999999999", 1, 999_999_999],
      ["253402300800.", far, 0],
    ] as const) {
      const entry = readOne(pax(["mtime", text]), block({}));
      assert.deepEqual([entry.mtimeSec, entry.mtimeNsec], [sec, nsec], text);
    }
    assert.equal(readOne(block({ uid: " 17 \0", mode: "   755 " })).uid, 0o17);
    refuses([block({ size: base256(-1n, 12) })], "TAR_MALFORMED", /size is -1/);
    refuses([block({ size: base256(1n << 60n, 12) })], "TAR_MALFORMED", /2\^53/);
    refuses([block({ uid: "12x" })], "TAR_MALFORMED", /uid is no number/);
    refuses([pax(["mtime", "1e5"])], "TAR_MALFORMED", /mtime/);
  });

  test("H28: 8 GiB claimed in a 1 KiB stream", () => {
    const eightGiB = (8 * 1024 ** 3).toString(8).padStart(12, "0");
    refuses([block({ name: "big", size: eightGiB }), end], "TAR_TRUNCATED", /"big".*before the end of the file's data/);
    for (const flag of "xgLK") refuses([block({ flag, size: eightGiB }), end], "TAR_LIMIT", /limit/);
  });

  test("H29: truncated at every 512-byte boundary, and anywhere inside a block", () => {
    const archive = motley();
    const ends = new Set<number>();
    const reader = new TarReader({
      entry: () => {},
      endEntry: (e) => ends.add(Math.ceil((e.dataOffset + e.size) / 512) * 512),
    });
    reader.push(archive);
    for (let at = 512; at < archive.length - 1024; at += 512) {
      for (const length of [at, at + 100]) {
        const cutShort = archive.subarray(0, length);
        // Between two entries nothing tells a cut archive from one without end blocks but `ending`.
        const isBetween = ends.has(length) || archive[length - 512 - 512 + 156] === 0x67;
        if (isBetween) assert.equal(read([cutShort]).reader.ending, "open");
        else refuses([cutShort], "TAR_TRUNCATED", /the archive ends/);
      }
    }
  });

  test("two zero blocks end an archive; one, or none, is told apart; a header after one is refused", () => {
    const one = block({});
    assert.equal(read([one, end]).reader.ending, "complete");
    assert.equal(read([one, end.subarray(512)]).reader.ending, "short");
    assert.equal(read([one, end.subarray(300)]).reader.ending, "short");
    assert.equal(read([one]).reader.ending, "open");
    assert.equal(read([]).reader.ending, "open");
    refuses([one, end.subarray(512), one], "TAR_MALFORMED", /after a zero block/);
    refuses([pax(["path", "x"]), end], "TAR_MALFORMED", /without its entry/);
    refuses([pax(["path", "x"])], "TAR_TRUNCATED", /without its entry/);
  });

  test("H30: 10 GiB of zeros after the end are passed on in bounded memory", () => {
    const zeros = Buffer.alloc(1024 * 1024);
    let length = 0;
    const reader = new TarReader({ entry: () => {}, raw: (bytes) => (length += bytes.length) });
    reader.push(end);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 10 * 1024; i++) reader.push(zeros);
    reader.end();
    assert.equal(length, 1024 + 10 * 1024 ** 3);
    assert.ok(process.memoryUsage().arrayBuffers - before < 8 * 1024 * 1024);
  });

  test("H31: a second archive after the end blocks is no part of the first", () => {
    const { entries } = read([block({ name: "a" }), end, block({ name: "b" }), end]);
    assert.deepEqual(
      entries.map((e) => e.name),
      ["a"],
    );
  });

  test("H22, H32: xattrs of 64 KiB and names of 64 KiB are read; headers beyond the limits are refused unread", () => {
    const value = "v".repeat(65_536);
    const many = Array.from({ length: 100 }, (_, i): [string, string] => [`SCHILY.xattr.user.${i}`, value]);
    assert.equal(readOne(pax(...many), block({})).xattrs.size, 100);
    assert.equal(readOne(pax(["path", "n".repeat(65_536)]), block({})).name.length, 65_536);
    assert.equal(readOne(extension("L", `${"n".repeat(65_536)}\0`), block({})).name.length, 65_536);
    refuses([block({ flag: "x", size: 10_000 * 65_600 })], "TAR_LIMIT", /limit is 33554432/);
    refuses([pax(["SCHILY.xattr.", "v"])], "TAR_MALFORMED", /xattr without a name/);
    refuses([pax(["SCHILY.xattr.user.\0", "v"])], "TAR_MALFORMED", /NUL/);
  });

  test("H33, H35: entries are delivered as they come: one path thrice, names that differ by case or normalisation", () => {
    const names = ["p", "p", "p", "P", "\xc3\xa9", "e\xcc\x81"];
    const blocks = names.map((name, i) => block({ name, flag: "502000"[i] as string }));
    assert.deepEqual(
      read([...blocks, end]).entries.map((e) => e.name),
      names,
    );
  });

  test("a wrong checksum names the place; the old signed sum is accepted", () => {
    refuses([block({ name: "a" }), block({ name: "b", checksum: "0000001\0" })], "TAR_CHECKSUM", /byte 1024/);
    const signed = block({ name: "\xff\xff" });
    const unsignedSum = Number.parseInt(signed.toString("latin1", 148, 154), 8);
    signed.write((unsignedSum - 512).toString(8).padStart(6, "0"), 148, "latin1");
    assert.equal(readOne(signed).name, "\xff\xff");
  });

  test("an error names the entry, escaped and not too long", () => {
    const named = [pax(["path", `\x1b[31m${"n".repeat(5000)}`]), block({ size: 1 })];
    refuses(named, "TAR_TRUNCATED", /^tar entry "\\u001b\[31mn{251}"… \(5005 bytes\) at byte/);
  });
});
