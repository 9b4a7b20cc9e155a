import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { parseMountOptions } from "./mount-options.ts";

test("layers, features and what mount(8) adds", () => {
  assert.deepEqual(parseMountOptions("rw,lowerdir=/a:/b,upperdir=/u,workdir=w,metacopy=on,volatile,nodev,xino=off"), {
    lowers: ["/a", "/b"],
    upper: "/u",
    work: "w",
    userxattr: false,
    features: { redirectDir: true, metacopy: true, volatile: true },
    readOnly: false,
    allowOther: false,
  });
  const readOnly = parseMountOptions("lowerdir=/a,userxattr,allow_other");
  assert.deepEqual([readOnly.readOnly, readOnly.userxattr, readOnly.allowOther], [true, true, true]);
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
    ["lowerdir=/a,index=on", /index=on is not supported/],
    ["lowerdir=/a,volatiel", /unknown option: volatiel/],
  ];
  for (const [options, message] of refused)
    assert.throws(
      () => parseMountOptions(options),
      (error) => isLamellaError(error, "invalid_argument") && message.test(error.message) && error.hint !== undefined,
    );
});
