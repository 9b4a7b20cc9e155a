/**
 * Applies or undoes a cure and kills itself at the N-th event, after it was written down: `cure-killed-child.ts
 * apply|undo STATE PREFIX N`; the plan to apply comes on standard input. Ends with 0 when there are fewer events.
 */
import { readFileSync } from "node:fs";
import { realHost } from "../../src/doctor/cures/cure-host.ts";
import type { Plan } from "../../src/doctor/cures/plan.ts";
import { applyPlan, type RunOptions, undoCure } from "../../src/doctor/cures/run.ts";
import { HostView } from "../../src/doctor/host-view.ts";

const [mode, state = "", prefix = "/", place] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(0, "utf8")) as Plan;
let left = Number(place);
const options: RunOptions = {
  state,
  host: { ...realHost(), view: new HostView(prefix) },
  onEvent: () => {
    if (--left === 0) process.kill(process.pid, "SIGKILL");
  },
};
if (mode === "apply") await applyPlan(plan, options);
else await undoCure(plan.id, options);
