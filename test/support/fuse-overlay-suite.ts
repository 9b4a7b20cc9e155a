/** All that fuse-overlay must do, for whatever file system its home lies on. */
import { fuseOverlayFactory } from "../../src/drivers/fuse-overlay/factory.ts";
import { findProgram } from "../../src/fs/find-program.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import type { Lack } from "../../src/testing/driver-suite-options.ts";
import { testDriverProperty } from "./driver-property.ts";
import { inUserNamespace } from "./overlay-lab.ts";

export interface FuseOverlaySuiteOptions {
  /** Makes an empty directory for the driver's home; removed with what is in it. */
  readonly makeHome: () => string;
  readonly skip?: string | undefined;
  /** Length of the deep chain. */
  readonly depth?: number;
  /** Layers to make and remove. */
  readonly cycles?: number;
  readonly lacks?: readonly Lack[];
  /** Sequences of random operations. */
  readonly runs?: number;
}

/** Registers the suite and the property test under `fuse-overlay on PLACE`. */
export function testFuseOverlay(place: string, options: FuseOverlaySuiteOptions): void {
  // Each turn starts and ends a process.
  const { makeHome, depth = 128, cycles = 200, runs = 20 } = options;
  const missing = findProgram("fuse-overlayfs") === undefined ? "fuse-overlayfs is not installed" : undefined;
  const skip = options.skip ?? missing;
  testDriver(`fuse-overlay on ${place}`, fuseOverlayFactory, {
    makeHome,
    skip,
    depth,
    cycles,
    privileged: !inUserNamespace(),
    usage: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: false,
    metadataCopies: false,
    lacks: options.lacks ?? [],
  });
  testDriverProperty(`fuse-overlay on ${place}`, fuseOverlayFactory, { makeHome, skip, runs });
}
