import assert from "node:assert/strict";
import { test } from "node:test";
import { parseZfsDiff } from "./zfs-diff.ts";

/** Lines as zfs-diff(8) of OpenZFS describes them for `-FH`. */
function parse(...lines: readonly string[]): ReturnType<typeof parseZfsDiff> {
  return parseZfsDiff(lines.map((line) => `${line}\n`).join(""), "/home/graph/id");
}

test("reads what was made, changed and removed", () => {
  const diff = parse(
    "M\t/\t/home/graph/id/",
    "M\t/\t/home/graph/id/etc",
    "+\tF\t/home/graph/id/etc/new",
    "-\tF\t/home/graph/id/etc/old",
    "M\tF\t/home/graph/id/etc/passwd",
    "+\t@\t/home/graph/id/link",
    "+\t|\t/home/graph/id/fifo",
    "+\tC\t/home/graph/id/null",
    "+\t=\t/home/graph/id/socket",
  );
  assert.deepEqual(diff?.hint.paths, ["", "etc", "etc/new", "etc/old", "etc/passwd", "link", "fifo", "null", "socket"]);
  assert.deepEqual(diff?.hint.subtrees, []);
  assert.deepEqual(diff?.files, ["etc/new", "etc/old", "etc/passwd", "link", "fifo", "null", "socket"]);
});

test("reads renames: a directory's as subtrees, at both names", () => {
  const diff = parse(
    "R\t/\t/home/graph/id/a\t/home/graph/id/b/c",
    "R\tF\t/home/graph/id/x\t/home/graph/id/y",
    "R\tF\t/home/graph/id/v\t->\t/home/graph/id/w",
  );
  assert.deepEqual(diff?.hint.subtrees, ["a", "b/c"]);
  assert.deepEqual(diff?.hint.paths, ["x", "y", "v", "w"]);
});

test("reads names with spaces, backslashes and bytes that are not UTF-8", () => {
  const diff = parse("+\tF\t/home/graph/id/a\\0040b\\0134c\\0303\\0274\\0377\\0011\\0012");
  assert.deepEqual(diff?.hint.paths, ["a b\\c\u00c3\u00bc\u00ff\t\n"]);
});

test("takes a change of attributes for one of their object", () => {
  const diff = parse("+\t/\t/home/graph/id/f/<xattrdir>", "+\tF\t/home/graph/id/f/<xattrdir>/user.note");
  assert.deepEqual(diff?.hint.paths, ["f"]);
});

test("gives up where it cannot tell", () => {
  assert.equal(parse("M\tF\t/home/graph/id/linked\t(+1)"), undefined);
  assert.equal(parse("M\tF\t/elsewhere/f"), undefined);
  assert.equal(parse("M\tF\t/home/graph/id/strange\\x41"), undefined);
  assert.equal(parse("M\tF\t/home/graph/id/strange\\37777777703"), undefined);
  assert.equal(parse("?\tF\t/home/graph/id/f"), undefined);
  assert.equal(parse("M\t?\t/home/graph/id/f"), undefined);
  assert.equal(parse("R\tF\t/home/graph/id/f"), undefined);
});

test("is empty where nothing changed", () => {
  assert.deepEqual(parse()?.hint, { kind: "candidates", paths: [], subtrees: [] });
});
