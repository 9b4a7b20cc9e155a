/** Both zstd decoders against the same streams: the system's libzstd and the one in JavaScript. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { compress, type DecompressOptions, decompress, pureZstd, type ZstdCodec } from "../tar/index.ts";
import { systemZstd } from "./zstd.ts";

const system = systemZstd();
const absent = system === undefined ? "libzstd.so.1 is not installed" : false;

async function* pieces(bytes: Uint8Array, ...cuts: number[]): AsyncGenerator<Uint8Array> {
  let start = 0;
  for (const at of [...cuts.sort((a, b) => a - b), bytes.length]) {
    yield bytes.subarray(start, at);
    start = at;
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function frame(bytes: Uint8Array, level = 3): Promise<Buffer> {
  return collect(compress(pieces(bytes), "zstd", { zstd: system, level }));
}

/** A frame made by hand: descriptor and header fields, then raw blocks. */
function rawFrame(header: number[], ...blocks: Buffer[]): Buffer {
  const parts: Buffer[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, ...header])];
  blocks.forEach((block, i) => {
    const head = Buffer.alloc(3);
    head.writeUIntLE(block.length * 8 + (i === blocks.length - 1 ? 1 : 0), 0, 3);
    parts.push(head, block);
  });
  return Buffer.concat(parts);
}

function skippable(length: number): Buffer {
  const head = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, randomBytes(length)]);
}

const text = Buffer.concat([Buffer.from("zstd frames and windows, ".repeat(40_000)), randomBytes(300_000)]);

const codecs: [string, ZstdCodec | undefined][] = [
  ["libzstd", system],
  ["fzstd", pureZstd],
];
for (const [name, zstd] of codecs) {
  const decode = (bytes: Uint8Array, options?: DecompressOptions, ...cuts: number[]) =>
    collect(decompress(pieces(bytes, ...cuts), { zstd, ...options }));

  describe(`zstd decoding by ${name}`, { skip: zstd === undefined && absent }, () => {
    test("frames of every level decode, whatever the pieces", { skip: absent }, async () => {
      for (const level of [1, 3, 19]) {
        const compressed = await frame(text, level);
        assert.ok((await decode(compressed)).equals(text));
        assert.ok((await decode(compressed, {}, 1, 2, 3, 5, 9, 20, 1000, 100_000)).equals(text));
      }
      const small = await frame(text.subarray(0, 3000));
      assert.ok((await decode(small, {}, ...small.keys())).equals(text.subarray(0, 3000)));
    });

    test("any bytes, any pieces", { skip: absent }, async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), fc.array(fc.nat(3000)), async (bytes, cuts) => {
          const compressed = await frame(bytes);
          const inner = cuts.filter((at) => at < compressed.length);
          assert.deepEqual(await decode(compressed, {}, ...inner), Buffer.from(bytes));
        }),
        { numRuns: 50 },
      );
    });

    test("H37: all frames are decoded, empty and skippable ones passed over", async () => {
      const hello = rawFrame([0x20, 5], Buffer.from("hello"));
      const empty = rawFrame([0x20, 0], Buffer.alloc(0));
      const long = rawFrame([0, 0x50], Buffer.alloc(100_000, "a"), Buffer.alloc(100_000, "b"));
      const stream = Buffer.concat([skippable(7), hello, empty, skippable(0), long, skippable(70_000), hello]);
      const expected = Buffer.from(`hello${"a".repeat(100_000)}${"b".repeat(100_000)}hello`);
      assert.deepEqual(await decode(stream), expected);
      assert.deepEqual(await decode(stream, {}, 3, 8, 15, 16, 30, 1000), expected);
      assert.deepEqual(await decode(skippable(100)), Buffer.alloc(0));
    });

    test("H37: 50,000 frames in one piece", async () => {
      const one = rawFrame([0x20, 2], Buffer.from("ab"));
      const many = Buffer.concat(Array.from({ length: 50_000 }, () => one));
      assert.deepEqual(await decode(many), Buffer.from("ab".repeat(50_000)));
    });

    test("H37: a window of 2 GiB is refused before memory is taken; a limit admits what it says", async () => {
      const before = process.memoryUsage.rss();
      for (const header of [
        [0, 0xa8],
        [0xe0, 0, 0, 0, 0x80, 0, 0, 0, 0],
      ])
        await assert.rejects(decode(rawFrame(header, Buffer.from("x"))), {
          kind: "resource_exhausted",
          code: "ZSTD_WINDOW",
          message: /134217728/,
        });
      assert.ok(process.memoryUsage.rss() - before < 100 * 1024 * 1024);
      const oneMiB = rawFrame([0, 0x50], Buffer.from("x"));
      assert.deepEqual(await decode(oneMiB, { limits: { zstdWindowBytes: 1 << 20 } }), Buffer.from("x"));
      await assert.rejects(decode(oneMiB, { limits: { zstdWindowBytes: 1 << 19 } }), { code: "ZSTD_WINDOW" });
    });

    test("H39: garbage after a frame, damage, and truncation are data loss", async () => {
      const hello = rawFrame([0x20, 5], Buffer.from("hello"));
      for (let length = 4; length < hello.length; length++)
        await assert.rejects(decode(hello.subarray(0, length)), { code: "COMPRESSION_TRUNCATED" }, `${length}`);
      for (const tail of ["garbage", "\0\0\0\0", "\0", "(\xb5/\xfe"])
        await assert.rejects(decode(Buffer.concat([hello, Buffer.from(tail, "latin1")])), { kind: "data_loss" }, tail);
      const reservedBlock = Buffer.concat([rawFrame([0x20, 5]), Buffer.from([7, 0, 0])]);
      await assert.rejects(decode(reservedBlock), { code: "COMPRESSION_CORRUPT" });
    });

    test("leaving early closes the source", { skip: absent }, async () => {
      const compressed = await frame(text);
      let isClosed = false;
      async function* endless() {
        try {
          for (;;) yield compressed;
        } finally {
          isClosed = true;
        }
      }
      for await (const _ of decompress(endless(), { zstd })) break;
      assert.ok(isClosed);
    });
  });
}

describe("zstd encoding by libzstd", { skip: absent }, () => {
  test("the same bytes each time; the zstd tool reads them", async (t) => {
    const compressed = await frame(text);
    assert.ok((await frame(text)).equals(compressed));
    const inPieces = await collect(compress(pieces(text, 1, 70_000, 900_000), "zstd", { zstd: system }));
    assert.ok((await collect(decompress(pieces(inPieces)))).equals(text));
    const tool = spawnSync("zstd", ["-dc"], { input: compressed, maxBuffer: 1 << 24 });
    if (tool.error) return t.skip("the zstd tool is not installed");
    assert.ok(tool.stdout.equals(text));
  });

  test("content checksums are written and verified", async () => {
    const compressed = await frame(text);
    compressed[compressed.length - 1] = (compressed.at(-1) as number) ^ 1;
    await assert.rejects(collect(decompress(pieces(compressed), { zstd: system })), { code: "COMPRESSION_CORRUPT" });
  });

  test("streams run beside each other", async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => frame(text)));
    const plain = await Promise.all(all.map((bytes) => collect(decompress(pieces(bytes), { zstd: system }))));
    assert.ok(plain.every((bytes) => bytes.equals(text)));
  });
});
