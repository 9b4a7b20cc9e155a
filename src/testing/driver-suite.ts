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
import type { Driver, DriverFactory, LayerId, LayerUsage } from "../drivers/driver.ts";
import { testChanges } from "./driver-changes.ts";
import { testLifecycle, testStacks } from "./driver-lifecycle.ts";
import { testMounts } from "./driver-mounts.ts";
import { testProcesses } from "./driver-processes.ts";
import { Scene, type SceneTest } from "./driver-scene.ts";
import { testTrees } from "./driver-trees.ts";

/** What the backing file system cannot hold, whatever the driver does; the tests leave it out. */
export type Lack = "xattrs" | "acls" | "devices" | "sparse files" | "huge files";

export interface DriverSuiteOptions {
  /** Makes an empty directory for a driver's home on the file system under test; the suite removes it. */
  readonly makeHome: () => string;
  /** Ends what the driver keeps besides files (pools, datasets, subvolumes) before the home is removed. */
  readonly removeHome?: (home: string, driver: Driver) => Promise<void>;
  readonly driverOptions?: Readonly<Record<string, string>>;
  /** Why the suite cannot run here. */
  readonly skip?: string | undefined;
  /** Length of the deep chain; 128 when not given. */
  readonly depth?: number;
  /** How many layers are made, mounted and removed in search of something left behind; 1,000 when not given. */
  readonly cycles?: number;
  /** The caller may give files to other users and make devices: root outside a user namespace. */
  readonly privileged: boolean;
  readonly lacks?: readonly Lack[];
  /** What a layer's usage must be: that of a directory, as du says; or as the caller says, once all is flushed. */
  readonly usage:
    | ((home: string, id: LayerId) => string)
    | { readonly expected: (home: string, id: LayerId) => LayerUsage };
  /** A directory of a lower layer can be renamed; false registers no test of it. */
  readonly renamesLowerDirectories: boolean;
  /** Changing the owner of a lower file copies no data; false registers no test of it. */
  readonly metadataCopies: boolean;
  /** A size limit for a layer, in bytes, where the driver can set one here; undefined registers no test of it. */
  readonly quotaBytes?: number;
  /** What the driver has on the host besides its home, by name: compared before and after each test. */
  readonly hostState?: () => readonly string[];
}

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
