import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LamellaError } from "../errors/lamella-error.ts";
import { parseBoolean, parseKeyValue, parseSize, readOptions } from "./option-values.ts";

function refusal(act: () => unknown): { message: string; hint: string | undefined } {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof LamellaError);
    assert.equal(error.kind, "invalid_argument");
    assert.equal(error.code, "DRIVER_OPTION");
    return { message: error.message, hint: error.hint };
  }
  assert.fail("nothing was thrown");
}

describe("values of storage options", () => {
  it("reads sizes as Docker does", () => {
    const sizes: Record<string, number | undefined> = {
      "0": 0,
      "32": 32,
      "32b": 32,
      "32B": 32,
      "32k": 32 * 1024,
      "32kb": 32 * 1024,
      "32KiB": 32 * 1024,
      "32 MB": 32 * 1024 ** 2,
      "10G": 10 * 1024 ** 3,
      "1.5t": 1.5 * 1024 ** 4,
      "2p": 2 * 1024 ** 5,
      "32.": 32,
      ".5k": 512,
      "+1k": 1024,
      "1e3": 1000,
      "0.3": 0,
      "": undefined,
      " 10G": undefined,
      "10  G": undefined,
      "10Gi": undefined,
      "10e": undefined,
      "10bb": undefined,
      "-1": undefined,
      hello: undefined,
      "1e999": undefined,
    };
    for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize(text), bytes, JSON.stringify(text));
  });

  it("reads booleans as Go does", () => {
    for (const word of ["1", "t", "T", "TRUE", "true", "True"]) assert.equal(parseBoolean(word), true);
    for (const word of ["0", "f", "F", "FALSE", "false", "False"]) assert.equal(parseBoolean(word), false);
    for (const word of ["", "yes", "on", "tRUE", "2"]) assert.equal(parseBoolean(word), undefined);
  });

  it("splits key=value", () => {
    assert.deepEqual(parseKeyValue(" dm.mkfsarg = -O ^has_journal "), ["dm.mkfsarg", "-O ^has_journal"]);
    assert.deepEqual(parseKeyValue("dm.mountopt=a=b"), ["dm.mountopt", "a=b"]);
    assert.equal(refusal(() => parseKeyValue("foo")).message, "unable to parse storage-opt key/value: foo");
  });

  it("reads each value as what it is", () => {
    const options = readOptions("devicemapper", {
      " DM.BaseSize ": " 20G ",
      "dm.blkdiscard": "F",
      "dm.min_free_space": "5%",
      "dm.xfs_nospace_max_retries": "0",
      "dm.fs": "ext4",
    });
    assert.equal(options.sizeBytes("dm.basesize"), 20 * 1024 ** 3);
    assert.equal(options.boolean("dm.blkdiscard"), false);
    assert.equal(options.percent("dm.min_free_space"), 5);
    assert.equal(options.whole("dm.xfs_nospace_max_retries"), 0);
    assert.equal(options.text("dm.fs"), "ext4");
    assert.equal(options.text("dm.mountopt"), undefined);
    const wrong = readOptions("devicemapper", {
      "dm.basesize": "big",
      "dm.blkdiscard": "yes",
      "dm.min_free_space": "x%",
    });
    assert.match(refusal(() => wrong.sizeBytes("dm.basesize")).message, /^dm\.basesize=big: .* a size such as 10G/);
    assert.match(refusal(() => wrong.boolean("dm.blkdiscard")).message, /true or false/);
    assert.match(refusal(() => wrong.percent("dm.min_free_space")).message, /a percentage/);
  });

  it("says which options there are", () => {
    const misspelt = refusal(() => readOptions("btrfs", { "btrfs.minspace": "1G" }));
    assert.equal(misspelt.message, "btrfs: unknown option btrfs.minspace");
    assert.equal(misspelt.hint, "did you mean btrfs.min_space? known are btrfs.min_space");
    assert.equal(refusal(() => readOptions("aufs", { nothing: "1" })).hint, "aufs has no options");
    const foreign = refusal(() => readOptions("overlay2", { "dm.fs": "xfs" }));
    assert.equal(foreign.message, "overlay2: unknown option dm.fs");
    assert.match(foreign.hint ?? "", /^it is an option of the driver devicemapper; known are overlay2\.size, /);
    const gone = refusal(() => readOptions("overlay2", { "overlay2.override_kernel_check": "true" }));
    assert.match(gone.message, /^overlay2\.override_kernel_check was removed in Docker 24/);
  });

  it("takes names in any case, but those of vfs as they are", () => {
    assert.equal(readOptions("zfs", { "ZFS.fsname": "a/B" }).text("zfs.fsname"), "a/B");
    assert.equal(refusal(() => readOptions("vfs", { Size: "1G" })).message, "vfs: unknown option Size");
  });
});
