import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { formatPlatform, parsePlatform, platformDistance, platformOfNode, samePlatform } from "./platform.ts";

test("one platform has one spelling", () => {
  const table = {
    "linux/amd64": "linux/amd64",
    "Linux/x86_64": "linux/amd64",
    "linux/amd64/v1": "linux/amd64",
    "linux/amd64/v3": "linux/amd64/v3",
    "linux/arm": "linux/arm/v7",
    "linux/arm/7": "linux/arm/v7",
    "linux/armhf": "linux/arm/v7",
    "linux/armel": "linux/arm/v6",
    "linux/aarch64": "linux/arm64",
    "linux/arm64/v8": "linux/arm64",
    "linux/i386": "linux/386",
    "windows/amd64": "windows/amd64",
    arm64: "linux/arm64",
    x86_64: "linux/amd64",
  };
  for (const [text, normal] of Object.entries(table)) {
    assert.equal(formatPlatform(parsePlatform(text)), normal, text);
    assert.ok(samePlatform(parsePlatform(text), parsePlatform(normal)));
  }
});

test("an operating system alone takes the host's architecture", () => {
  const host = platformOfNode("arm64");
  assert.equal(formatPlatform(parsePlatform("linux", host)), "linux/arm64");
  assert.throws(
    () => parsePlatform("linux"),
    (error) => isLamellaError(error, "invalid_argument"),
  );
});

test("what is no platform is refused", () => {
  for (const text of ["", "/", "linux/", "a/b/c/d", "linux/am d64", "nonsense", "../../x"]) {
    assert.throws(
      () => parsePlatform(text),
      (error) => isLamellaError(error) && error.code === "INVALID_PLATFORM",
      text,
    );
  }
});

test("Node's architectures become Go's", () => {
  const table = {
    x64: "linux/amd64",
    ia32: "linux/386",
    arm: "linux/arm/v7",
    ppc64: "linux/ppc64le",
    s390x: "linux/s390x",
    riscv64: "linux/riscv64",
  };
  for (const [arch, platform] of Object.entries(table)) assert.equal(formatPlatform(platformOfNode(arch)), platform);
});

test("a host runs its own variant best, older ones next, newer ones not", () => {
  const of = (text: string) => platformDistance(parsePlatform("linux/arm/v7"), parsePlatform(text));
  assert.deepEqual(
    ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5", "linux/arm/v8", "linux/arm64", "windows/arm/v7"].map(of),
    [0, 1, 2, undefined, undefined, undefined],
  );
  assert.equal(platformDistance(parsePlatform("linux/amd64"), parsePlatform("linux/amd64/v3")), undefined);
  assert.equal(platformDistance(parsePlatform("linux/arm64"), parsePlatform("linux/arm64/v8")), 0);
});
