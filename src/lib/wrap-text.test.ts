import assert from "node:assert/strict";
import { test } from "node:test";
import { wrapText } from "./wrap-text.ts";

test("breaks at spaces, indents as far as the label goes, and leaves long words whole", () => {
  assert.deepEqual(wrapText("one two three", 12, "  - "), ["  - one two", "    three"]);
  assert.deepEqual(wrapText("a-word-longer-than-that b", 10, ""), ["a-word-longer-than-that", "b"]);
  assert.deepEqual(wrapText("fits", 10, ""), ["fits"]);
});
