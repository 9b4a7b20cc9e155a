import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Crc64 } from "./crc64.ts";
import { TarSplitDecoder, TarSplitEncoder } from "./tar-split.ts";

type Said = ["segment", string] | ["file", string, number, string];

/** What a decoder says of bytes that come in pieces of the given sizes, neighbouring segments joined. */
function decode(bytes: Buffer, sizes: readonly number[] = []): Said[] {
  const said: Said[] = [];
  const decoder = new TarSplitDecoder({
    segment: (segment) => {
      const last = said.at(-1);
      if (last?.[0] === "segment") last[1] += segment.toString("hex");
      else said.push(["segment", segment.toString("hex")]);
    },
    file: (name, size, crc) => said.push(["file", name, size, crc.toString("hex")]),
  });
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    decoder.push(bytes.subarray(at, at + size));
    at = Math.min(bytes.length, at + size);
  }
  decoder.end();
  return said;
}

function encode(said: readonly Said[]): Buffer {
  const lines: Buffer[] = [];
  const encoder = new TarSplitEncoder((line) => lines.push(line));
  for (const item of said) {
    if (item[0] === "segment") encoder.segment(Buffer.from(item[1], "hex"));
    else encoder.file(item[1], item[2], Buffer.from(item[3], "hex"));
  }
  encoder.end();
  return Buffer.concat(lines);
}

const byteName = fc.uint8Array({ minLength: 1, maxLength: 30 }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const file = fc
  .tuple(byteName, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), fc.uint8Array({ minLength: 8, maxLength: 8 }))
  .map(([name, size, crc]): Said => ["file", name, size, Buffer.from(crc).toString("hex")]);
const segment = fc
  .uint8Array({ minLength: 1, maxLength: 600 })
  .map((bytes): Said => ["segment", Buffer.from(bytes).toString("hex")]);
/** Segments and files by turns, as in a tar. */
const split = fc.array(fc.tuple(segment, file), { maxLength: 12 }).map((pairs) => pairs.flat());

describe("tar-split", () => {
  test("what is encoded is decoded again, however it is cut", () => {
    fc.assert(
      fc.property(split, fc.array(fc.nat(400), { maxLength: 20 }), (said, sizes) => {
        assert.deepEqual(decode(encode(said), sizes), said);
      }),
    );
  });

  test("lines are those of Docker's encoder", () => {
    const text = encode([
      ["segment", "00ff"],
      ["file", "a<b>&c", 3, "0102030405060708"],
      ["file", Buffer.from("grüße").toString("latin1"), 1, "0102030405060708"],
      ["file", "not\xfftext", 1, "0102030405060708"],
      ["segment", "00"],
    ]).toString();
    assert.deepEqual(text.split("\n"), [
      '{"type":2,"payload":"AP8=","position":0}',
      '{"type":1,"name":"a\\u003cb\\u003e\\u0026c","size":3,"payload":"AQIDBAUGBwg=","position":1}',
      '{"type":1,"name":"grüße","size":1,"payload":"AQIDBAUGBwg=","position":2}',
      '{"type":1,"name_raw":"bm90/3RleHQ=","size":1,"payload":"AQIDBAUGBwg=","position":3}',
      '{"type":2,"payload":"AA==","position":4}',
      "",
    ]);
  });

  test("objects without content are passed over, as Docker's reader does", () => {
    const line = '{"type":1,"name":"etc/","payload":null,"position":0}\n{"type":2,"payload":"AA==","position":1}\n';
    assert.deepEqual(decode(Buffer.from(line)), [["segment", "00"]]);
  });

  test("what Docker cannot have written is refused", () => {
    const bad = [
      '{"type":2,"payload":"AA=="',
      '{"type":2,"payload":"AA=="}',
      "[]\n",
      "null\n",
      "x\n",
      '{"type":3,"payload":"AA=="}\n',
      '{"type":2}\n',
      '{"type":2,"payload":"A"}\n',
      '{"type":2,"payload":"A?=="}\n',
      '{"type":1,"name":"a","size":-1,"payload":"AQIDBAUGBwg="}\n',
      '{"type":1,"name":"a","size":1.5,"payload":"AQIDBAUGBwg="}\n',
      '{"type":1,"name":"a","size":1e300,"payload":"AQIDBAUGBwg="}\n',
      '{"type":1,"name":"a","size":1,"payload":"AQID"}\n',
      '{"type":1,"name":"a","size":1,"payload":null}\n',
      '{"type":1,"size":1,"payload":"AQIDBAUGBwg="}\n',
      '{"type":1,"name":["a"],"size":1,"payload":"AQIDBAUGBwg="}\n',
    ];
    for (const text of bad) assert.throws(() => decode(Buffer.from(text)), { code: "TAR_SPLIT_DAMAGED" }, text);
  });

  test("a line without an end is not collected for ever", () => {
    const decoder = new TarSplitDecoder({ segment: () => {}, file: () => {} });
    const chunk = Buffer.alloc(8 * 1024 * 1024, "A");
    assert.throws(
      () => {
        for (let i = 0; i < 16; i++) decoder.push(chunk);
      },
      { code: "TAR_SPLIT_DAMAGED" },
    );
  });
});

/** The definition: one bit at a time. */
function crcByBits(bytes: Uint8Array): string {
  let crc = 0xffff_ffff_ffff_ffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ 0xd800_0000_0000_0000n : crc >> 1n;
  }
  return (crc ^ 0xffff_ffff_ffff_ffffn).toString(16).padStart(16, "0");
}

describe("CRC-64 of ISO 3309", () => {
  test("the check value", () => {
    const crc = new Crc64();
    crc.update(Buffer.from("123456789"));
    assert.equal(crc.digest().toString("hex"), "b90956c775a41001");
  });

  test("equal to the definition, at every alignment and however it is cut", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(8), fc.nat(200), (bytes, offset, cut) => {
        const shifted = Buffer.alloc(bytes.length + offset);
        shifted.set(bytes, offset);
        const crc = new Crc64();
        crc.update(shifted.subarray(offset, Math.min(offset + cut, shifted.length)));
        crc.update(shifted.subarray(Math.min(offset + cut, shifted.length)));
        assert.equal(crc.digest().toString("hex"), crcByBits(bytes));
      }),
    );
  });
});
