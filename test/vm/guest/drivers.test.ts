/**
 * The drivers that need nothing of this machine but an old kernel: the suite, with fewer repetitions than test/mount has,
 * since every program that starts takes long here.
 */
import { overlay2Factory } from "../../../src/drivers/overlay2/factory.ts";
import { kernelAtLeast } from "../../../src/fs/overlay-mount.ts";
import { testDriver } from "../../../src/testing/driver-suite.ts";
import { testDriverProperty } from "../../support/driver-property.ts";
import { directoryIn, placeOf } from "../../support/file-systems.ts";

for (const type of kernelAtLeast(6, 0) ? (["ext4", "xfs"] as const) : (["ext4"] as const)) {
  const place = placeOf(type);
  const makeHome = (): string => directoryIn(place);
  testDriver(`overlay2 on ${type}`, overlay2Factory, {
    makeHome,
    skip: place.skip,
    privileged: true,
    depth: 64,
    cycles: 10,
    usage: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: true,
    metadataCopies: true,
  });
  testDriverProperty(`overlay2 on ${type}`, overlay2Factory, { makeHome, skip: place.skip, runs: 3 });
}
