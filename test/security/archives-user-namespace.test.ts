/** The tests of hostile archives once more, as root of a user namespace that maps one id. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const files = ["archives", "compression", "manifests"].map((name) =>
  fileURLToPath(new URL(`./${name}.test.ts`, import.meta.url)),
);
const register = fileURLToPath(new URL("../register.mjs", import.meta.url));
const unshare = ["--user", "--map-root-user", "--mount", "--propagation", "private"];

test("hostile archives in a user namespace", (t) => {
  const probe = spawnSync("unshare", [...unshare, "true"], { encoding: "utf8" });
  if (probe.status !== 0) return t.skip(`no user namespaces here: ${probe.stderr || probe.error?.message}`);
  // Without NODE_TEST_CONTEXT the runner inside reports in words.
  const { NODE_TEST_CONTEXT: _context, ...env } = process.env;
  const args = [...unshare, process.execPath, "--import", register, "--test", ...files];
  const result = spawnSync("unshare", args, { encoding: "utf8", env, timeout: 300_000 });
  assert.equal(result.status, 0, `${result.stdout}\n${result.stderr}`);
});
