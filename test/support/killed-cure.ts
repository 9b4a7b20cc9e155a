/** Cures and their undoing in a process that is killed on the way. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { Plan } from "../../src/doctor/cures/plan.ts";

const project = join(import.meta.dirname, "../..");

export interface KilledAt {
  readonly mode: "apply" | "undo";
  readonly plan: Plan;
  readonly state: string;
  /** Taken for `/`. */
  readonly prefix?: string;
  /** Counted from 1. */
  readonly event: number;
}

/** True when it was killed, false when it came to its end before. */
export function runKilled({ mode, plan, state, prefix = "/", event }: KilledAt): boolean {
  const child = join(project, "test/doctor/cure-killed-child.ts");
  const args = ["--import", join(project, "test/register.mjs"), child, mode, state, prefix, String(event)];
  const { signal, status, stderr } = spawnSync(process.execPath, args, {
    input: JSON.stringify(plan),
    encoding: "utf8",
  });
  if (signal === "SIGKILL") return true;
  if (status !== 0) throw new Error(`${mode} failed before event ${event}: ${stderr}`);
  return false;
}
