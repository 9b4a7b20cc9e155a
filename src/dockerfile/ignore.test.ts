import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { compileGlob } from "./glob.ts";
import { parseIgnore } from "./ignore.ts";

test("one pattern and one path", () => {
  const table: [pattern: string, path: string, ignored: boolean][] = [
    ["a", "a", true],
    ["a", "a/b", true],
    ["a", "ab", false],
    ["a", "b/a", false],
    ["a/b", "a", false],
    ["a/b", "a/b/c", true],
    ["/a", "a", true],
    ["a/", "a", true],
    ["./a", "a", true],
    ["a/../b", "b", true],
    ["a//b", "a/b", true],
    ["/", "a", false],
    ["  a \t", "a", true],
    ["#a", "#a", false],
    [" #a", "#a", true],
    ["\\#a", "#a", true],
    [".", "a", false],
    ["..", "a", false],
    ["*", "a/b", true],
    ["*.md", "a.md", true],
    ["*.md", "d/a.md", false],
    ["*/*.md", "d/a.md", true],
    ["*/*.md", "a.md", false],
    ["?.md", "a.md", true],
    ["?.md", "ab.md", false],
    ["?", "é", true],
    ["a?b", "a/b", false],
    ["[a-c]x", "bx", true],
    ["[^a]x", "ax", false],
    ["a.b", "axb", false],
    ["a\\*", "a*", true],
    ["a\\*", "ab", false],
    ["a+(b)|{c}$^", "a+(b)|{c}$^", true],
    ["**", "a/b", true],
    ["**/a", "a", true],
    ["**/a", "x/y/a", true],
    ["**/a", "x/ya", false],
    ["**/a", "x/a/z", true],
    ["a/**", "a", false],
    ["a/**", "a/b/c", true],
    ["a/**/b", "a/b", true],
    ["a/**/b", "a/x/y/b", true],
    ["a/**/b", "axb", false],
    ["**/*.go", "a.go", true],
    ["**/*.go", "x/y/a.go", true],
    ["**/**/a", "a", true],
    ["**/**/**", "a", true],
    ["x/**/**/a", "x/a", true],
    ["***/a", "x/y/a", true],
    ["**.go", "x/y.go", true],
    ["**a/b", "xa/b", true],
    ["**.g?", "x/y.go", false],
    ["***.go", "x/y.go", true],
    ["x**o", "x/y.go", false],
    ["x**o", "x/y/o", true],

    ["{a,b}", "a", false],
    ["a b", "a b", true],
  ];
  for (const [pattern, path, ignored] of table) {
    assert.equal(parseIgnore(pattern).matches(bytesOfText(path)), ignored, `${pattern} on ${path}`);
  }
});

test("the last match wins, exceptions reach into ignored directories", () => {
  const ignore = parseIgnore(
    "\ufeff# build products\r\n*.md\r\n!README*.md\r\nREADME-secret.md\r\n\r\nout\r\n! out/keep\r\n**/tmp\r\n",
  );
  const table = {
    "a.md": true,
    "README.md": false,
    "README-secret.md": true,
    "out/x": true,
    "out/keep/y": false,
    "out/keep/tmp/z": true,
    "out/keeper": true,
  };
  for (const [path, ignored] of Object.entries(table)) assert.equal(ignore.matches(path), ignored, path);
  assert.equal(ignore.mayContainExceptions("out"), true);
  assert.equal(ignore.mayContainExceptions("out/x"), false);
  assert.equal(ignore.mayContainExceptions("tmp"), false);
  assert.deepEqual(
    ignore.patterns.map(({ line }) => line),
    [2, 3, 4, 6, 7, 8],
  );
  assert.equal(parseIgnore("").matches("a"), false);
});

test("bad patterns are refused with their line", () => {
  for (const pattern of ["[", "[]", "[]a]", "[a", "[a-]", "[-a]", "a\\", "!", "![", "[^]"]) {
    assert.throws(
      () => parseIgnore(`a\n${pattern}`),
      (error) => isLamellaError(error, "invalid_argument") && error.message.startsWith(".dockerignore:2: "),
      pattern,
    );
  }
});

const component = fc.constantFrom("a", "b", "ab", ".a");
const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const pattern = fc
  .tuple(
    fc.constantFrom("", "!"),
    fc.array(fc.constantFrom("a", "b", "ab", "*", "a*", "?", "**", "[ab]", "**b"), { minLength: 1, maxLength: 4 }),
  )
  .map(([bang, parts]) => bang + parts.join("/"));

test("a walk that prunes sees what a full walk sees", () => {
  fc.assert(
    fc.property(fc.array(pattern, { maxLength: 5 }), path, (patterns, file) => {
      const ignore = parseIgnore(patterns.join("\n"));
      if (ignore.matches(file)) return;
      for (let at = file.indexOf("/"); at > 0; at = file.indexOf("/", at + 1)) {
        const dir = file.slice(0, at);
        assert.ok(!ignore.matches(dir) || ignore.mayContainExceptions(dir), dir);
      }
    }),
    { numRuns: 5000 },
  );
});

test("many patterns in one expression decide as each alone would", () => {
  fc.assert(
    fc.property(fc.array(pattern, { maxLength: 6 }), path, (patterns, file) => {
      let ignored = false;
      for (const text of patterns) {
        const exception = text.startsWith("!");
        if (parseIgnore(exception ? text.slice(1) : text).matches(file)) ignored = !exception;
      }
      assert.equal(parseIgnore(patterns.join("\n")).matches(file), ignored);
    }),
    { numRuns: 2000 },
  );
});

test("the globs of COPY know no double star and match whole paths", () => {
  const table: [pattern: string, path: string, matches: boolean][] = [
    ["*.txt", "a.txt", true],
    ["*.txt", "d/a.txt", false],
    ["d/*", "d/a", true],
    ["d/*", "d/a/b", false],
    ["**", "a/b", false],
    ["**", "ab", true],
    ["?", "\xc3\xa9", true],
    ["??", "\xc3\xa9", false],
    ["[à-ü]", "\xc3\xa9", true],
    ["[^x]", "/", true],
    ["[z-a]", "z", false],
    ["[^z-a]", "q", true],
    ["[\\]]", "]", true],
    ["[a\\-z]", "-", true],
    ["a[b]c", "abc", true],
    ["*\\*", "x*", true],
    ["", "", true],
    ["*", "", true],
    ["a", "A", false],
  ];
  for (const [glob, file, matches] of table) assert.equal(compileGlob(glob)(file), matches, `${glob} on ${file}`);
});
