import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import { type Encodable, encodeJson, type JsonLimits, type JsonObject, parseJson, sortedMap } from "./json.ts";

const parse = (text: string, limits?: JsonLimits) => parseJson(Buffer.from(text), limits);
const invalid = (error: unknown) => isLamellaError(error, "invalid_argument") && error.code === "INVALID_JSON";

test("whatever JSON.parse accepts and JSON.stringify writes reads the same", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(0, 1), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      if (!text.isWellFormed()) return;
      // Through stringify, since the reader's objects have no prototype.
      assert.equal(JSON.stringify(parse(text)), JSON.stringify(JSON.parse(text)));
    }),
  );
});

test("the reader accepts no text that JSON.parse refuses", () => {
  const fragments = ["{", "}", "[", "]", ",", ":", '"a"', '"b\\n"', "1", "-", "0", ".5", "e3", "true", "nul", " ", '"'];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...fragments), { maxLength: 9 }), (parts) => {
      const text = parts.join("");
      let expected: unknown;
      try {
        expected = JSON.parse(text);
      } catch {
        assert.throws(() => parse(text), invalid, text);
        return;
      }
      const duplicate = /"a".*"a"|"b\\n".*"b\\n"/.test(text) && text.includes("{");
      if (!duplicate) assert.equal(JSON.stringify(parse(text)), JSON.stringify(expected));
    }),
    { numRuns: 2000 },
  );
});

test("H45 too large, too deep, duplicate keys, __proto__", () => {
  assert.throws(
    () => parseJson(new Uint8Array(50 * 1024 * 1024)),
    (error) => isLamellaError(error, "resource_exhausted") && error.code === "JSON_TOO_LARGE",
  );
  for (const depth of [65, 10_000, 500_000]) {
    assert.throws(() => parse("[".repeat(depth) + "]".repeat(depth)), invalid);
    assert.throws(() => parse('{"a":'.repeat(depth)), invalid);
  }
  assert.ok(parse("[".repeat(64) + "]".repeat(64)));
  assert.throws(() => parse('{"a":1,"a":2}'), /duplicate key "a" \(line 1\)/);
  assert.throws(() => parse('{"a":1,\n"\\u0061":2}'), /duplicate key "a" \(line 2\)/);

  const object = parse('{"__proto__":{"polluted":true},"constructor":1}') as JsonObject;
  assert.equal(Object.getPrototypeOf(object), null);
  assert.equal(object.polluted, undefined);
  assert.deepEqual(Object.keys(object), ["__proto__", "constructor"]);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test("texts that readers understand differently are refused", () => {
  const bad = [
    "",
    " ",
    "{} x",
    "01",
    "1.",
    "+1",
    "NaN",
    "'a'",
    "[1,]",
    '{"a":1,}',
    "{a:1}",
    '"\t"',
    '"\\x"',
    "\ufeff{}",
    '"\\ud800"',
    "// c\n1",
  ];
  for (const text of bad) assert.throws(() => parse(text), invalid, text);
  assert.throws(() => parseJson(Buffer.from([0x22, 0xff, 0x22])), /not UTF-8/);
});

test("the writer gives Go's bytes", () => {
  const value: Encodable = { b: "<a&b>\u2028\u2029\u0001\n\u00e9", a: [1, null, true], none: undefined };
  assert.equal(
    encodeJson(value).toString(),
    '{"b":"\\u003ca\\u0026b\\u003e\\u2028\\u2029\\u0001\\n\u00e9","a":[1,null,true]}',
  );
  assert.equal(
    encodeJson(sortedMap({ "10": "", "9": "", "-": "", b: "", "\u{10000}": "", "\uffff": "" })).toString(),
    '{"-":"","10":"","9":"","b":"","\uffff":"","\u{10000}":""}',
  );
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" })), (map) => {
      assert.equal(JSON.stringify(parseJson(encodeJson(map))), JSON.stringify(map));
    }),
  );
});
