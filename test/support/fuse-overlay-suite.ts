/** All that fuse-overlay must do, for whatever file system its home lies on. */

import { execFileSync } from "node:child_process";
import { fuseOverlayFactory } from "../../src/drivers/fuse-overlay/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import type { Lack } from "../../src/testing/driver-suite-options.ts";
import { counts } from "./counts.ts";
import { testDriverProperty } from "./driver-property.ts";
import { inUserNamespace } from "./overlay-lab.ts";

export interface FuseOverlaySuiteOptions {
  /** Makes an empty directory for the driver's home; removed with what is in it. */
  readonly makeHome: () => string;
  readonly skip?: string | undefined;
  /** Default: our own. */
  readonly mountProgram?: string | undefined;
  /** Length of the deep chain. */
  readonly depth?: number;
  /** Layers to make and remove. */
  readonly cycles?: number;
  /** Writes out what the file system has not counted yet. */
  readonly flush?: () => void;
  readonly lacks?: readonly Lack[];
  /** As in the property test: false where the mode does not follow ACLs. */
  readonly acls?: boolean;
  /** Sequences of random operations. */
  readonly runs?: number;
}

/** Registers the suite and the property test under `fuse-overlay on PLACE`. */
export function testFuseOverlay(place: string, options: FuseOverlaySuiteOptions): void {
  const { makeHome, depth = 128, cycles = 200, runs = 20, mountProgram, skip } = options;
  const driverOptions = mountProgram === undefined ? {} : { "fuse_overlay.mount_program": mountProgram };
  testDriver(`fuse-overlay on ${place}`, fuseOverlayFactory, {
    makeHome,
    driverOptions,
    skip,
    ...counts({ depth, cycles }),
    privileged: !inUserNamespace(),
    usage: {
      expected: (home, id) => {
        const du = (unit: string): number =>
          Number.parseInt(execFileSync("du", ["-s", unit, `${home}/${id}`], { encoding: "utf8" }), 10);
        let sizeBytes = du("-B1");
        if (options.flush !== undefined) {
          // One flush need not reach all of it.
          for (let turn = 0, before = -1; sizeBytes !== before && turn < 10; turn++) {
            before = sizeBytes;
            options.flush();
            sizeBytes = du("-B1");
          }
        }
        return { sizeBytes, inodes: du("--inodes") };
      },
    },
    renamesLowerDirectories: mountProgram === undefined,
    metadataCopies: mountProgram === undefined,
    lacks: options.lacks ?? [],
  });
  testDriverProperty(`fuse-overlay on ${place}`, fuseOverlayFactory, {
    makeHome,
    driverOptions,
    skip,
    runs,
    acls: options.acls ?? true,
  });
}
