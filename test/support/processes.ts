/** Processes that tests wait for. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";

/** Waits until a process that is no child has ended. */
export async function gone(pid: number): Promise<void> {
  for (let i = 0; existsSync(`/proc/${pid}`); i++) {
    assert.ok(i < 1200, `process ${pid} does not end`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
