/**
 * Does one thing to a store and kills itself, the way a power switch would, at the failpoint of the given number.
 * Arguments: root, driver, scenario, number (0: run to the end), directory of the fixtures.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { setFailpointHook } from "../../src/store/failpoints.ts";
import { Store } from "../../src/store/store.ts";
import { scenarios } from "./store-scenarios.ts";

const [root = "", driver = "", name = "", number = "0", fixtures = ""] = process.argv.slice(2);
const scenario = scenarios[name];
if (scenario === undefined) throw new Error(`no scenario ${name}`);
let passed = 0;
setFailpointHook((failpoint) => {
  if (++passed !== Number(number)) return;
  writeSync(1, failpoint);
  process.kill(process.pid, "SIGKILL");
});
{
  await using store = await Store.open({ root: join(root), driver });
  await scenario.run(store, fixtures);
}
