import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import { digestOf } from "./digest.ts";
import { formatReference, parseReference } from "./reference.ts";

const digest = digestOf("x");

test("references are split into domain, path, tag and digest", () => {
  const table: [text: string, printed: string, domain: string | undefined, path: string, tag: string | undefined][] = [
    ["hello", "hello:latest", undefined, "hello", "latest"],
    ["hello:1.2", "hello:1.2", undefined, "hello", "1.2"],
    ["team/app", "team/app:latest", undefined, "team/app", "latest"],
    ["a/b/c:T_1", "a/b/c:T_1", undefined, "a/b/c", "T_1"],
    ["localhost/app", "localhost/app:latest", "localhost", "app", "latest"],
    ["localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000", "app", "v1"],
    ["reg.example.com/team/app", "reg.example.com/team/app:latest", "reg.example.com", "team/app", "latest"],
    ["Reg.Example.com/app", "Reg.Example.com/app:latest", "Reg.Example.com", "app", "latest"],
    ["[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000", "app", "latest"],
    [`hello@${digest}`, `hello@${digest}`, undefined, "hello", undefined],
    [`hello:1@${digest}`, `hello:1@${digest}`, undefined, "hello", "1"],
    ["a__b.c-d---e", "a__b.c-d---e:latest", undefined, "a__b.c-d---e", "latest"],
  ];
  for (const [text, printed, domain, path, tag] of table) {
    const reference = parseReference(text);
    assert.equal(reference.domain, domain, text);
    assert.equal(reference.path, path, text);
    assert.equal(reference.tag, tag, text);
    assert.equal(reference.name, domain === undefined ? path : `${domain}/${path}`, text);
    assert.equal(formatReference(reference), printed);
    assert.deepEqual(parseReference(printed), reference);
  }
});

test("H50 tags and names that are no references are refused", () => {
  const bad = [
    "",
    ":",
    ":latest",
    "a:",
    "a:b:c",
    "../../x",
    "a:../../x",
    "a/../b",
    "./a",
    "/a",
    "a/",
    "a//b",
    "-a",
    "a-",
    "a..b",
    "a___b",
    "a b",
    "a\n",
    "a:b\n",
    "a:.x",
    "a:-x",
    `a:${"t".repeat(129)}`,
    "a".repeat(256),
    "f".repeat(64),
    "a@",
    "a@b",
    "a@sha256:../../x",
    "_.x/a",
    "exa_mple.com/a",
    "host:123456/a",
    "a\0b",
    "x".repeat(5000),
    "[::1/a",
    "é",
  ];
  for (const text of bad) {
    assert.throws(
      () => parseReference(text),
      (error) => isLamellaError(error, "invalid_argument"),
      JSON.stringify(text),
    );
  }
});

test("upper-case names are refused with the lower-case spelling", () => {
  assert.throws(
    () => parseReference("Hello:1"),
    (error) => isLamellaError(error, "invalid_argument") && error.hint === "write hello:1",
  );
});

test("printing and parsing again changes nothing, whatever the input", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9./:@_-]{0,20}$/), (text) => {
      let reference: ReturnType<typeof parseReference>;
      try {
        reference = parseReference(text);
      } catch (error) {
        assert.ok(isLamellaError(error, "invalid_argument"));
        return;
      }
      assert.deepEqual(parseReference(formatReference(reference)), reference);
      assert.ok(!reference.name.split("/").includes(".."));
    }),
    { numRuns: 2000 },
  );
});
