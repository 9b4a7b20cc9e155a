import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { algorithmOf, chainIdOf, chainIdsOf, digestOf, hexOf, isDigest, parseDiffId, parseDigest } from "./digest.ts";

const hex = "a".repeat(64);
const invalid = (error: unknown) => isLamellaError(error, "invalid_argument") && error.code === "INVALID_DIGEST";

test("H41 digests that are not digests are refused (CVE-2024-3727)", () => {
  const bad = [
    "",
    "sha256:",
    "sha256:../../x",
    `sha256:${hex.toUpperCase()}`,
    `SHA256:${hex}`,
    `sha1:${"a".repeat(40)}`,
    `md5:${"a".repeat(32)}`,
    hex,
    `sha256:${hex}0`,
    `sha256:${hex.slice(1)}`,
    `sha256:${hex}\n`,
    ` sha256:${hex}`,
    `sha512:${hex}`,
    `sha256:${hex}/../x`,
  ];
  for (const text of bad) {
    assert.equal(isDigest(text), false, text);
    assert.throws(() => parseDigest(text), invalid, text);
    assert.throws(() => parseDiffId(text), invalid, text);
  }
  assert.equal(isDigest(undefined), false);
});

test("sha256 and sha512 digests are accepted, diff IDs are sha256 alone", () => {
  assert.equal(parseDigest(`sha256:${hex}`), `sha256:${hex}`);
  const long = parseDigest(`sha512:${hex}${hex}`);
  assert.equal(algorithmOf(long), "sha512");
  assert.equal(hexOf(long), hex + hex);
  assert.throws(() => parseDiffId(long), invalid);
});

test("a digest is that of the bytes", () => {
  assert.equal(digestOf(""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  assert.ok(isDigest(digestOf(Buffer.from("x"), "sha512")));
});

test("chain IDs follow the OCI spec", () => {
  const [a, b, c] = ["a", "b", "c"].map((text) => parseDiffId(digestOf(text)));
  assert.ok(a && b && c);
  assert.equal(chainIdOf(undefined, a), a);
  const ab = digestOf(`${a} ${b}`);
  assert.deepEqual(chainIdsOf([a, b, c]), [a, ab, digestOf(`${ab} ${c}`)]);
  assert.deepEqual(chainIdsOf([]), []);
});
