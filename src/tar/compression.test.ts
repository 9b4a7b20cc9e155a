import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { type Compression, compress, type DecompressOptions, decompress, detectCompression } from "./index.ts";

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

function plainOf(bytes: Uint8Array, options?: DecompressOptions): Promise<Buffer> {
  return collect(decompress(pieces(bytes), options));
}

const text = Buffer.from("some text that repeats itself, some text that repeats itself\n".repeat(500));
const member = gzipSync(text);

describe("detectCompression", () => {
  test("tells formats by their magic, and only by all of it", () => {
    const cases: [string, number[] | string][] = [
      ["gzip", [0x1f, 0x8b, 0x08, 0]],
      ["none", [0x1f, 0x8b, 0x07, 0]],
      ["none", [0x1f, 0x8b]],
      ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
      ["zstd", [0x5f, 0x2a, 0x4d, 0x18]],
      ["none", [0x60, 0x2a, 0x4d, 0x18]],
      ["bzip2", "BZh91AY&SY"],
      ["none", "BZhello.txt"],
      ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
      ["none", []],
    ];
    for (const [format, head] of cases) assert.equal(detectCompression(Buffer.from(head as string)), format);
  });

  test("H40: a stream is what its bytes say; one that contradicts what is expected is refused", async () => {
    assert.deepEqual(await plainOf(text), text);
    assert.deepEqual(await plainOf(member, { expected: "gzip" }), text);
    await assert.rejects(plainOf(member, { expected: "zstd" }), { code: "COMPRESSION_MISMATCH" });
    await assert.rejects(plainOf(text, { expected: "gzip" }), { code: "COMPRESSION_MISMATCH" });
    await assert.rejects(plainOf(Buffer.from("BZh91AY&SY...")), { code: "COMPRESSION_UNSUPPORTED", hint: /bzip2 -d/ });
    assert.deepEqual(await plainOf(Buffer.alloc(0)), Buffer.alloc(0));
    assert.deepEqual(await plainOf(Buffer.from("ab")), Buffer.from("ab"));
  });
});

describe("gzip", () => {
  test("what is compressed decompresses, whatever the pieces; the same bytes each time", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 5000 }), fc.array(fc.nat(5000)), async (bytes, cuts) => {
        const compressed = await collect(compress(pieces(bytes, ...cuts.filter((at) => at < bytes.length)), "gzip"));
        assert.deepEqual(await collect(compress(pieces(bytes), "gzip")), compressed);
        const inner = cuts.filter((at) => at < compressed.length);
        assert.deepEqual(await collect(decompress(pieces(compressed, ...inner))), Buffer.from(bytes));
      }),
      { numRuns: 50 },
    );
  });

  test("the header holds no time and no name", async () => {
    const compressed = await collect(compress(pieces(text), "gzip", { level: 6 }));
    assert.deepEqual([...compressed.subarray(0, 8)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
  });

  test("H38: all members are decoded, wherever the pieces are cut", async () => {
    const two = Buffer.concat([member, gzipSync("second"), gzipSync(""), gzipSync("third")]);
    const expected = Buffer.concat([text, Buffer.from("secondthird")]);
    assert.deepEqual(await plainOf(two), expected);
    for (let at = member.length - 12; at < member.length + 12; at++)
      assert.deepEqual(await collect(decompress(pieces(two, at))), expected);
    assert.deepEqual(await collect(decompress(pieces(two, ...two.keys()))), expected);
  });

  test("H39: zeros after the end are padding; anything else is damage, be it after zeros", async () => {
    const zeros = Buffer.alloc(70_000);
    const after = (...tail: Uint8Array[]) => Buffer.concat([member, ...tail]);
    assert.deepEqual(await plainOf(after(zeros)), text);
    assert.deepEqual(await collect(decompress(pieces(after(zeros), member.length, member.length + 9))), text);
    const junk = Buffer.from("junk");
    for (const tail of [[junk], [zeros, junk], [zeros.subarray(0, 1), member]]) {
      const damaged = after(...tail);
      for (const cuts of [[], [member.length], [member.length + 1], [damaged.length - 2]])
        await assert.rejects(collect(decompress(pieces(damaged, ...cuts))), { code: "COMPRESSION_CORRUPT" });
    }
  });

  test("a truncated or damaged stream is data loss", async () => {
    for (const length of [4, 12, 50, member.length - 8, member.length - 1])
      await assert.rejects(plainOf(member.subarray(0, length)), { code: "COMPRESSION_TRUNCATED" }, `${length}`);
    const damaged = Buffer.from(member);
    damaged[damaged.length - 5] = 1 ^ (damaged.at(-5) as number); // the checksum
    await assert.rejects(plainOf(damaged), { kind: "data_loss", code: "COMPRESSION_CORRUPT" });
  });

  test("H36: a bomb stops at the limit, and memory stays bounded", async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    assert.ok(bomb.length < 70_000);
    await assert.rejects(plainOf(bomb, { limits: { outputBytes: 1_000_000 } }), {
      kind: "resource_exhausted",
      code: "DECOMPRESSED_TOO_LARGE",
    });
    let length = 0;
    let largest = 0;
    for await (const chunk of decompress(pieces(bomb))) {
      length += chunk.length;
      largest = Math.max(largest, chunk.length);
    }
    assert.deepEqual([length, largest <= 256 * 1024], [64 * 1024 * 1024, true]);
  });
});

describe("sources", () => {
  const formats: Compression[] = ["none", "gzip"];

  test("an error of the source comes through as it is", async () => {
    const failure = new Error("the disk is on fire");
    async function* failing(bytes: Uint8Array) {
      yield bytes;
      throw failure;
    }
    const is = (error: unknown) => error === failure;
    for (const format of formats) await assert.rejects(collect(compress(failing(text), format)), is);
    for (const bytes of [text, member, text.subarray(0, 3)])
      await assert.rejects(collect(decompress(failing(bytes))), is);
  });

  test("leaving early closes the source, as does refusing it", async () => {
    let closed = 0;
    async function* endless(bytes: Uint8Array) {
      try {
        for (;;) yield bytes;
      } finally {
        closed++;
      }
    }
    for await (const _ of decompress(endless(text))) break;
    for await (const _ of decompress(endless(member))) break;
    for (const format of formats) for await (const _ of compress(endless(text), format)) break;
    assert.equal(closed, 4);
    await assert.rejects(collect(decompress(endless(text), { expected: "gzip" })));
    assert.equal(closed, 5);
  });

  test("an aborted signal ends the work with `canceled`", async () => {
    for (const format of formats) {
      const abort = new AbortController();
      async function* aborting() {
        yield text;
        abort.abort();
        yield text;
      }
      const { signal } = abort;
      await assert.rejects(collect(compress(aborting(), format, { signal })), { kind: "canceled" });
    }
  });

  test("zstd without a codec that compresses says what to install", () => {
    assert.throws(() => compress(pieces(text), "zstd"), { kind: "unimplemented", hint: /libzstd/ });
  });
});
