import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "./crc32c.ts";

test("gives the check value of CRC-32C, in one piece or several", () => {
  const bytes = Buffer.from("123456789");
  assert.equal((crc32c(0xffffffff, bytes) ^ 0xffffffff) >>> 0, 0xe3069283);
  assert.equal(crc32c(crc32c(0, bytes.subarray(0, 4)), bytes.subarray(4)), crc32c(0, bytes));
});
