/** The tests of hostile layers once more, in a user namespace with a single mapped id. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

test("hostile layers in a user namespace", { timeout: 300_000 }, (t) => {
  const unshare = ["--map-root-user", "--mount", "--propagation", "private"];
  const probe = spawnSync("unshare", [...unshare, "true"], { encoding: "utf8" });
  if (probe.status !== 0) return t.skip(`no user namespaces here: ${probe.stderr ?? probe.error?.message}`);
  const files = ["layers", "layers-threads"].map((name) => `test/security/${name}.test.ts`);
  const args = ["--import", "./test/register.mjs", "--test", ...files];
  // The runner's own variable would make the inner run report to this one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const run = spawnSync("unshare", [...unshare, process.execPath, ...args], { cwd: root, env, encoding: "utf8" });
  assert.equal(run.status, 0, run.stdout.slice(-8000) + run.stderr.slice(-2000));
});
