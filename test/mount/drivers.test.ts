/**
 * overlay2 and vfs on real file systems, each mounted in a mount namespace of this process's own; then all again in a user
 * namespace. The other drivers have files of their own.
 */
import { test } from "node:test";
import { overlay2Factory } from "../../src/drivers/overlay2/factory.ts";
import { vfsFactory } from "../../src/drivers/vfs/factory.ts";
import { testDriver } from "../../src/testing/driver-suite.ts";
import { directoryIn, placeOf } from "../support/file-systems.ts";
import { inUserNamespace } from "../support/overlay-lab.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const userNamespace = inUserNamespace();
const privileged = !userNamespace;
// Loop devices cannot be had in a user namespace.
const types = userNamespace ? (["host", "tmpfs"] as const) : (["host", "tmpfs", "ext4", "xfs", "btrfs"] as const);
for (const type of types) {
  const place = placeOf(type);
  const makeHome = (): string => directoryIn(place);
  const { skip } = place;
  testDriver(`overlay2 on ${type}`, overlay2Factory, {
    makeHome,
    skip,
    privileged,
    depth: type === "host" ? 500 : 128,
    usage: (home, id) => `${home}/${id}`,
    renamesLowerDirectories: !userNamespace,
    metadataCopies: !userNamespace,
  });
  testDriver(`vfs on ${type}`, vfsFactory, {
    makeHome,
    skip,
    privileged,
    depth: 20,
    usage: (home, id) => `${home}/dir/${id}`,
    renamesLowerDirectories: true,
    metadataCopies: false,
  });
}

if (!userNamespace) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
