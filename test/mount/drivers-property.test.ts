/** The central property of overlay2 and vfs on real file systems; the other drivers' tests have it in their own files. */
import { overlay2Factory } from "../../src/drivers/overlay2/factory.ts";
import { vfsFactory } from "../../src/drivers/vfs/factory.ts";
import { testDriverProperty } from "../support/driver-property.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";

for (const type of ["tmpfs", "ext4", "xfs", "btrfs"] as const) {
  const place = placeOf(type);
  const options = { makeHome: () => directoryIn(place), skip: place.skip, runs: type === "tmpfs" ? 60 : 15 };
  testDriverProperty(`overlay2 on ${type}`, overlay2Factory, options);
  testDriverProperty(`vfs on ${type}`, vfsFactory, options);
}
