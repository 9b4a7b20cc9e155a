/** overlay: the suite on ext4 and xfs, and what trees of hard links have of their own. */
import { overlayFactory } from "../../src/drivers/overlay/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";

for (const type of ["host", "ext4", "xfs"] as const) {
  const place = placeOf(type);
  const { skip } = place;
  const makeHome = (): string => directoryIn(place);
  testDriver(`overlay on ${type}`, overlayFactory, {
    makeHome,
    skip,
    privileged: true,
    depth: 128,
    usage: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: false,
    metadataCopies: false,
  });
  testDriverProperty(`overlay on ${type}`, overlayFactory, { makeHome, skip, runs: 30 });
}
