/** Running a test file once more, as root of a user namespace with a mount namespace of its own. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import type { TestContext } from "node:test";

/** Runs the test file there and passes when all of it does. Skips the test where user namespaces are not allowed. */
export function againInUserNamespace(t: TestContext, file: string, ...args: readonly string[]): void {
  if (spawnSync("unshare", ["-r", "-m", "true"]).status !== 0) {
    t.skip("user namespaces are not allowed here");
    return;
  }
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const script = ["--test-reporter", "tap", file, ...args];
  const command = ["-r", "-m", "--propagation", "private", process.execPath, ...process.execArgv, ...script];
  const { status, stdout, stderr } = spawnSync("unshare", command, { env, encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /# fail 0/);
  assert.match(stdout, /# pass [1-9]/);
}
