/**
 * What every storage driver must do, as tests: `testDriver` registers them with node:test. A driver is whatever passes.
 *
 * The caller sees to the surroundings: a mount namespace of the test's own where the driver mounts, and homes on the file
 * system to be tested. Every test has a home of its own, opens the driver there, and at its end looks for what is left:
 * mounts below the home, and whatever else the caller counts (subvolumes, datasets, loop and thin devices).
 *
 * The tests themselves, by what they ask: ./driver-lifecycle.ts, ./driver-trees.ts, ./driver-changes.ts, ./driver-mounts.ts,
 * ./driver-processes.ts.
 */
import { describe, it } from "node:test";
import type { DriverFactory } from "../drivers/driver.ts";
import { testChanges } from "./driver-changes.ts";
import { testLifecycle, testStacks } from "./driver-lifecycle.ts";
import { testMounts } from "./driver-mounts.ts";
import { testProcesses } from "./driver-processes.ts";
import { Scene, type SceneTest } from "./driver-scene.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";
import { testTrees } from "./driver-trees.ts";

/** Registers the suite under `name`. */
export function testDriver(name: string, factory: DriverFactory, options: DriverSuiteOptions): void {
  describe(name, { skip: options.skip ?? false }, () => {
    const scene: SceneTest = (title, body) => {
      it(title, async () => {
        await using opened = await Scene.open(factory, options);
        await body(opened);
      });
    };
    testLifecycle(scene);
    testTrees(scene, options);
    testChanges(scene, options);
    testStacks(scene, options);
    testMounts(scene, options);
    testProcesses(scene);
  });
}
