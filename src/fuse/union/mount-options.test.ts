import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { diskId, shownId } from "./id-map.ts";
import { parseMountOptions } from "./mount-options.ts";

test("layers, features and what mount(8) adds", () => {
  assert.deepEqual(parseMountOptions("rw,lowerdir=/a:/b,upperdir=/u,workdir=w,metacopy=on,volatile,nodev,xino=off"), {
    lowers: ["/a", "/b"],
    upper: "/u",
    work: "w",
    userxattr: false,
    features: { redirectDir: true, metacopy: true, volatile: true, index: false, unsynced: false, strict: false },
    log: undefined,
    readOnly: false,
    allowOther: false,
    flags: ["nodev"],
  });
  const readOnly = parseMountOptions("lowerdir=/a,userxattr,allow_other");
  assert.deepEqual([readOnly.readOnly, readOnly.userxattr, readOnly.allowOther], [true, true, true]);
});

test("owners are mapped and squashed", () => {
  const { users, groups } = parseMountOptions(
    "lowerdir=/a,uidmapping=0:1000:1:1:100000:65536,squash_to_gid=5",
  ).features;
  const ranges = [
    { disk: 0, shown: 1000, length: 1 },
    { disk: 1, shown: 100000, length: 65536 },
  ];
  assert.deepEqual(users, { ranges, squash: undefined });
  assert.deepEqual(groups, { ranges: [], squash: 5 });
  assert.equal(shownId({ ranges }, 3), 100002);
  assert.equal(shownId({ ranges }, 70000), 65534);
  assert.equal(diskId({ ranges }, 1000), 0);
  assert.throws(() => diskId({ ranges }, 0), { code: "EINVAL" });
  const root = parseMountOptions("lowerdir=/a,squash_to_root").features;
  assert.equal(shownId(root.users ?? { ranges }, 1000), 0);
});

test("permissions are those of inodes, or of one of two kinds of records", () => {
  for (const [value, permissions] of [
    ["0", "inodes"],
    ["1", 1],
    ["2", 2],
  ] as const)
    assert.equal(parseMountOptions(`lowerdir=/a,xattr_permissions=${value}`).features.permissions, permissions);
  assert.equal(parseMountOptions("lowerdir=/a").features.permissions, undefined);
  assert.throws(() => parseMountOptions("lowerdir=/a,xattr_permissions=3"), /xattr_permissions=3 is not supported/);
});

test("a backslash takes the meaning of commas and colons", () => {
  const { lowers } = parseMountOptions("lowerdir=/a\\:b:/c\\,d:/e\\\\f:/ü");
  assert.deepEqual(lowers, ["/a:b", "/c,d", "/e\\f", Buffer.from("/ü").toString("latin1")]);
});

test("what cannot be meant is refused with what could be", () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ["upperdir=/u,workdir=/w", /at least one layer/],
    ["lowerdir=/a,upperdir=/u", /go together/],
    ["lowerdir=/a,metacopy=on,redirect_dir=off", /needs redirect_dir/],
    ["lowerdir=/a,volatiel", /unknown option: volatiel/],
    ["lowerdir=/a,nfs_export=on", /nfs_export=on is not supported/],
    ["lowerdir=/a,uidmapping=0:1", /names no ranges/],
    ["lowerdir=/a,squash_to_uid=root", /is no ID/],
  ];
  for (const [options, message] of refused)
    assert.throws(
      () => parseMountOptions(options),
      (error) => isLamellaError(error, "invalid_argument") && message.test(error.message) && error.hint !== undefined,
    );
});
