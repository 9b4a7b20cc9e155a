// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles have variables of their own.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { isLamellaError } from "../errors/lamella-error.ts";
import { expand, expandWords, variablesOf } from "./expand.ts";

const env: Record<string, string> = { v: "a/b/c.tar.gz", x: "1", empty: "", sp: "one  two", é: "accent" };
const lookup = (name: string) => env[name];

test("every modifier", () => {
  const table: [word: string, expected: string][] = [
    ["$x", "1"],
    ["${x}", "1"],
    ["$x$x", "11"],
    ["a$x.b", "a1.b"],
    ["$xy", ""],
    ["${unset}", ""],
    ["$é", "accent"],
    ["$", "$"],
    ["a$", "a$"],
    ["$/", "$/"],
    ["$.x", "$.x"],
    ["$1a", "a"],
    ["$10a", "a"],
    ["${x:-w}", "1"],
    ["${unset:-w}", "w"],
    ["${empty:-w}", "w"],
    ["${empty-w}", ""],
    ["${unset-w}", "w"],
    ["${x:+w}", "w"],
    ["${unset:+w}", ""],
    ["${empty:+w}", ""],
    ["${empty+w}", "w"],
    ["${unset+w}", ""],
    ["${x:?m}", "1"],
    ["${x?m}", "1"],
    ["${empty?m}", ""],
    ["${unset:-${x}}", "1"],
    ["${unset:-${unset:-${unset:-deep}}}", "deep"],
    ["${unset:-$x$x}", "11"],
    ["${unset:-a b}", "a b"],
    ['${unset:-"a}b"}', "a}b"],
    ["${unset:-'a}$x'}", "a}$x"],
    ["${unset:-a\\}b}", "a}b"],
    ["${unset:-}", ""],
    ["${v#*/}", "b/c.tar.gz"],
    ["${v##*/}", "c.tar.gz"],
    ["${v%.*}", "a/b/c.tar"],
    ["${v%%.*}", "a/b/c"],
    ["${v#x}", "a/b/c.tar.gz"],
    ["${v%x}", "a/b/c.tar.gz"],
    ["${v#a?b}", "/c.tar.gz"],
    ["${v%.g?}", "a/b/c.tar"],
    ["${v#${x:+a}/}", "b/c.tar.gz"],
    ["${v##*}", ""],
    ["${v#*}", "a/b/c.tar.gz"],
    ["${v%%*}", ""],
    ["${v%*}", "a/b/c.tar.gz"],
    ["${v/\\//-}", "a-b/c.tar.gz"],
    ["${v//\\//-}", "a-b-c.tar.gz"],
    ["${v/b/$x}", "a/1/c.tar.gz"],
    ["${v/nope/x}", "a/b/c.tar.gz"],
    ["${v//[a-c]/Z}", "a/b/c.tar.gz"],
    ["${v//./}", "a/b/ctargz"],
    ["${v/a*c/$&}", "$&.tar.gz"],
    ["${v///x}", "a/b/c.tar.gz"],
    ["${unset#x}", ""],
    ["${unset/x/y}", ""],
  ];
  for (const [word, expected] of table) assert.equal(expand(word, lookup), expected, word);
});

test("quotes and escapes", () => {
  const table: [word: string, expected: string][] = [
    ["'$x'", "$x"],
    ['"$x"', "1"],
    ["'a\\'", "a\\"],
    ['"a\\"b"', 'a"b'],
    ['"\\$x"', "$x"],
    ['"a\\nb"', "a\\nb"],
    ['"\\\\"', "\\"],
    ["\\$x", "$x"],
    ["a\\ b", "a b"],
    ["a\\\\b", "a\\b"],
    ["a\\", "a"],
    ["a'b'\"c\"d", "abcd"],
    ["''", ""],
    ['"${unset:-"q"}"', "q"],
    ['"\'"', "'"],
    ["'\"'", '"'],
    ["🦀$x", "🦀1"],
    ["\\🦀", "🦀"],
  ];
  for (const [word, expected] of table) assert.equal(expand(word, lookup), expected, word);
  assert.equal(expand("C:\\dir`$x$x", lookup, { escape: "`" }), "C:\\dir$x1");
  assert.equal(expand(`it's "$x" \\$x`, lookup, { keepQuotes: true }), `it's "1" $x`);
});

test("splitting into words", () => {
  const table: [word: string, expected: string[]][] = [
    ["a  b", ["a", "b"]],
    ["$sp", ["one", "two"]],
    ['"$sp"', ["one  two"]],
    ["'a b' c", ["a b", "c"]],
    ["a\\ b", ["a b"]],
    ["x$sp", ["xone", "two"]],
    ["$unset", []],
    ['""', []],
    ["${unset:-a b}", ["a", "b"]],
    [" ", []],
  ];
  for (const [word, expected] of table) assert.deepEqual(expandWords(word, lookup), expected, word);
});

test("what Docker's lexer refuses is refused", () => {
  const bad = [
    "${",
    "${}",
    "${x",
    "${:x}",
    "${{x}}",
    "${x:",
    "${x:}",
    "${x!}",
    "${x:#y}",
    "${x^^}",
    "'a",
    '"a',
    "${x:-",
    "${x/a}",
    '${x:-"}',
    "${x y}",
  ];
  for (const word of bad) {
    assert.throws(
      () => expand(word, lookup),
      (e) => isLamellaError(e, "invalid_argument") && e.code === "BAD_SUBSTITUTION",
      word,
    );
  }
  assert.throws(() => expand("${unset:?say why}", lookup), /^LamellaError: unset: say why$/);
  assert.throws(() => expand("${empty:?}", lookup), /empty: is not allowed to be empty/);
  assert.throws(
    () => expand("${unset?}", lookup),
    (e) => isLamellaError(e) && e.code === "UNSET_VARIABLE",
  );
  assert.throws(() => expand("${a:-".repeat(10_000), lookup), /nested deeper/);
});

test("the variables a word mentions", () => {
  assert.deepEqual(variablesOf("$a ${b:-$c} '$d' \"$e\" \\$f ${g:?no} $a"), ["a", "c", "b", "e", "g"]);
});

test("text without special characters stays as it is", () => {
  fc.assert(fc.property(fc.stringMatching(/^[^$'"\\]*$/u), (text) => assert.equal(expand(text, lookup), text)));
});

test("bash agrees on modifiers and patterns", (t) => {
  try {
    execFileSync("bash", ["-c", ":"]);
  } catch {
    t.skip("bash is not installed");
    return;
  }
  const words = fc.sample(
    fc
      .tuple(
        fc.constantFrom("v", "w", "empty", "unset"),
        fc.constantFrom(":-", "-", ":+", "+", "#", "##", "%", "%%", "/", "//"),
        fc.array(fc.constantFrom("a", "b", "*", "?", ".", "\\*", "${w}", "x"), { minLength: 1, maxLength: 4 }),
      )
      .map(([name, operator, parts]) => {
        // An empty pattern part (`//` followed by nothing) is not what is compared here.
        const word = parts.join("");
        return operator.startsWith("/") ? `\${${name}${operator}${word}/R}` : `\${${name}${operator}${word}}`;
      }),
    { numRuns: 600, seed: 7 },
  );
  const values = { v: "abxab.aab*b", w: "ab", empty: "" };
  // In double quotes bash neither splits nor globs; `\*` in a default keeps its backslash there, so those are left out.
  const usable = words.filter((word) => !/[-+].*\\\*/.test(word));
  const script = usable.map((word) => `printf '%s\\0' "${word}"`).join("\n");
  const expected = execFileSync("bash", ["-c", script], { env: values }).toString().split("\0").slice(0, -1);
  for (const [i, word] of usable.entries()) {
    assert.equal(
      expand(word, (name) => values[name as keyof typeof values]),
      expected[i],
      word,
    );
  }
});
