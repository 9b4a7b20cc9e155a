/** aufs: the suite on ext4 and xfs, mounted by overlayfs, and what AUFS's marks have of their own. */
import { aufsFactory } from "../../src/drivers/aufs/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";

for (const type of ["host", "xfs"] as const) {
  const place = placeOf(type);
  const { skip } = place;
  const makeHome = (): string => directoryIn(place);
  testDriver(`aufs on ${type}`, aufsFactory, {
    makeHome,
    skip,
    privileged: true,
    depth: 127,
    usage: (home, id) => `${home}/diff/${id}`,
    renamesLowerDirectories: false,
    metadataCopies: false,
  });
  testDriverProperty(`aufs on ${type}`, aufsFactory, { makeHome, skip, runs: 30 });
}
