import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMountInfo, readMountInfo } from "./mountinfo.ts";

test("parses plain mounts, bind mounts of a part, and optional fields", () => {
  const text = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
22 27 0:21 / /proc rw,relatime - proc proc rw
40 36 0:44 /a\\040b /x shared:7 master:3 propagate_from:2 - tmpfs none rw
nonsense
41 36 0:45 / /y rw unbindable shared:1 - fuse.sshfs me@host:/a\\040b rw,user_id=0
`;
  const [first, second, , fourth] = parseMountInfo(text);
  assert.deepEqual(first, {
    id: 36,
    parentId: 35,
    devMajor: 98,
    devMinor: 0,
    root: "/mnt1",
    mountPoint: "/mnt2",
    options: ["rw", "noatime"],
    optionalFields: ["master:1"],
    type: "ext3",
    source: "/dev/root",
    superOptions: "rw,errors=continue",
  });
  assert.deepEqual(second?.optionalFields, []);
  assert.deepEqual(fourth?.optionalFields, ["unbindable", "shared:1"]);
  assert.equal(fourth?.source, "me@host:/a b");
});

test("unescapes octal, keeps bytes that are not UTF-8", () => {
  const line = "1 0 8:1 / /a\\040b\\011c\\012d\\134e\xff rw - ext4 /dev/sda1 rw,lowerdir=/l\\0541\n";
  const [mount] = parseMountInfo(line);
  assert.equal(mount?.mountPoint, "/a b\tc\nd\\e\xff");
  assert.equal(mount?.superOptions, "rw,lowerdir=/l,1");
  assert.deepEqual(parseMountInfo(""), []);
});

test("reads this process's mounts", () => {
  assert.ok(readMountInfo().some((mount) => mount.mountPoint === "/"));
});
