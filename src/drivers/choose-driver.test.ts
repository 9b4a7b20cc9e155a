import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { LamellaError } from "../errors/lamella-error.ts";
import { chooseDriver, type Factories } from "./choose-driver.ts";
import type { Driver, DriverFactory } from "./driver.ts";
import { unsupported } from "./layer-errors.ts";
import { newLayerId } from "./layer-id.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "lamella-choice-"));
});
afterEach(() => rmSync(root, { recursive: true }));

/** A driver that can be opened, or not, and nothing else: only the choice is looked at here. */
function factory(name: string, refusal?: LamellaError): DriverFactory {
  return {
    name,
    layersFolder: "layers",
    probe: async () => [],
    open: async () => {
      if (refusal !== undefined) throw refusal;
      return { name } as Driver;
    },
  };
}

function factories(...list: readonly DriverFactory[]): Factories {
  return new Map(list.map((one) => [one.name, one]));
}

function populate(name: string): void {
  mkdirSync(join(root, name, "layers", newLayerId()), { recursive: true });
}

const refuses = (name: string): DriverFactory => factory(name, unsupported(name, root, "it cannot", "do something"));

describe("the choice of a driver", () => {
  it("takes the first in the order of preference that works", async () => {
    const all = factories(
      factory("vfs"),
      factory("zfs"),
      refuses("btrfs"),
      refuses("overlay2"),
      factory("fuse-overlayfs"),
    );
    const { driver, reasons } = await chooseDriver(all, { root });
    assert.equal(driver?.name, "zfs");
    assert.match(reasons.get("zfs") ?? "", /^chosen: the first/);
    assert.match(reasons.get("overlay2") ?? "", /^not possible: overlay2 does not work under .*: it cannot$/);
    assert.equal(reasons.get("fuse-overlayfs"), "not chosen: zfs is preferred");
    assert.match(reasons.get("vfs") ?? "", /^not chosen: only for those who ask for it, as every layer is a full copy/);
  });

  it("never takes vfs unasked, and then has every reason", async () => {
    const { driver, error } = await chooseDriver(factories(refuses("overlay2"), refuses("zfs"), factory("vfs")), {
      root,
    });
    assert.equal(driver, undefined);
    assert.equal(error?.code, "NO_DRIVER");
    assert.match(error?.message ?? "", /overlay2 does not work .*; zfs does not work /);
    assert.equal(error?.hint, "do something");
  });

  it("takes the driver whose layers are there, and no other when that does not work", async () => {
    populate("vfs");
    const works = await chooseDriver(factories(factory("overlay2"), factory("vfs")), { root });
    assert.equal(works.driver?.name, "vfs");
    assert.equal(works.reasons.get("overlay2"), "not chosen: the root holds layers of vfs");
    const fails = await chooseDriver(factories(factory("overlay2"), refuses("vfs")), { root });
    assert.equal(fails.driver, undefined);
    assert.equal(fails.error?.code, "DRIVER_UNSUPPORTED");
  });

  it("does not choose between the layers of two drivers", async () => {
    populate("vfs");
    populate("overlay2");
    const both = factories(factory("overlay2"), factory("vfs"));
    const { driver, error } = await chooseDriver(both, { root });
    assert.equal(driver, undefined);
    assert.equal(error?.code, "SEVERAL_DRIVERS");
    assert.equal(error?.message, `${root} holds layers of overlay2 and vfs`);
    assert.match(error?.hint ?? "", /--driver overlay2.*lamella migrate/);
    assert.equal((await chooseDriver(both, { root, name: "vfs" })).driver?.name, "vfs");
  });

  it("takes the one asked for", async () => {
    populate("overlay2");
    const all = factories(factory("overlay2"), factory("vfs"), refuses("zfs"));
    assert.equal((await chooseDriver(all, { root, name: "vfs" })).driver?.name, "vfs");
    assert.equal((await chooseDriver(all, { root, name: "zfs" })).error?.code, "DRIVER_UNSUPPORTED");
    const { error } = await chooseDriver(all, { root, name: "overlay" });
    assert.equal(error?.message, 'no storage driver "overlay"');
    assert.equal(error?.hint, "did you mean overlay2? known are overlay2, vfs, zfs");
  });

  it("does not go on to another driver because of a wrong option, nor hide a fault", async () => {
    const wrong = new LamellaError("invalid_argument", "DRIVER_OPTION", "overlay2: unknown option x");
    const { error } = await chooseDriver(factories(factory("overlay2", wrong), factory("zfs")), { root });
    assert.equal(error, wrong);
  });

  it("keeps away from the data of other engines", async () => {
    mkdirSync(join(root, "image/overlay2/layerdb"), { recursive: true });
    const all = factories(factory("overlay2"), factory("vfs"));
    const { error } = await chooseDriver(all, { root, name: "vfs" });
    assert.equal(error?.code, "FOREIGN_ROOT");
    assert.equal(error?.message, `${root} holds Docker's data`);
    assert.match(error?.hint ?? "", /--root; `lamella migrate --from-docker /);
    rmSync(join(root, "image"), { recursive: true });
    writeFileSync(join(root, "storage.lock"), "");
    assert.match((await chooseDriver(all, { root })).error?.message ?? "", /Podman's data$/);
  });
});
