import assert from "node:assert/strict";
import { test } from "node:test";
import { editDistance, nearest } from "./nearest.ts";
import { textTable } from "./text-table.ts";

test("edit distance counts swaps of neighbours once", () => {
  assert.equal(editDistance("", "abc"), 3);
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("imgaes", "images"), 1);
  assert.equal(editDistance("same", "same"), 0);
});

test("the nearest candidates come first, far ones not at all", () => {
  assert.deepEqual(nearest("imags", ["inspect", "image", "images", "run"]), ["images", "image"].sort());
  assert.deepEqual(nearest("hel", ["hello:latest", "world:latest"]), ["hello:latest"]);
  assert.deepEqual(nearest("zzzz", ["images", "run"]), []);
});

test("a table pads its columns but not its line ends", () => {
  assert.equal(
    textTable([
      ["NAME", "SIZE"],
      ["a", "1B"],
      ["longer", "10B"],
    ]),
    "NAME     SIZE\na        1B\nlonger   10B\n",
  );
  assert.equal(textTable([["1"], ["100"]], { right: [0] }), "  1\n100\n");
});
