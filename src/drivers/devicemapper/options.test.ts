import assert from "node:assert/strict";
import { test } from "node:test";
import { LamellaError } from "../../errors/lamella-error.ts";
import { MS_NOATIME, MS_NODEV } from "../../sys/constants.ts";
import { formatConfig } from "./direct-lvm.ts";
import { parseMountOptions } from "./mount-options.ts";
import { parseDevicemapperOptions } from "./options.ts";

const GIB = 1024 ** 3;

test("options that are not given are Docker's", () => {
  assert.deepEqual(parseDevicemapperOptions({}), {
    pool: {
      kind: "own",
      dataDevice: undefined,
      metadataDevice: undefined,
      dataLoopBytes: 100 * GIB,
      metadataLoopBytes: 2 * GIB,
      blockSectors: 128,
    },
    baseSizeBytes: undefined,
    fileSystem: undefined,
    mkfsArguments: [],
    mount: { flags: 0, data: "" },
    discard: true,
    deferredRemoval: undefined,
    deferredDeletion: undefined,
    minFreePercent: 10,
    xfsNospaceRetries: undefined,
  });
});

test("every option is read", () => {
  const options = parseDevicemapperOptions({
    "dm.basesize": "20G",
    "DM.LoopDataSize": "1g",
    "dm.loopmetadatasize": "16MB",
    "dm.fs": "ext4",
    "dm.mkfsarg": "-O ^has_journal",
    "dm.mountopt": "nodev,noatime,data=ordered",
    "dm.blkdiscard": "false",
    "dm.blocksize": "512K",
    "dm.override_udev_sync_check": "true",
    "dm.use_deferred_removal": "true",
    "dm.use_deferred_deletion": "false",
    "dm.min_free_space": "0%",
    "dm.xfs_nospace_max_retries": "0",
    "dm.libdm_log_level": "7",
  });
  assert.equal(options.baseSizeBytes, 20 * GIB);
  assert.deepEqual(options.pool, {
    kind: "own",
    dataDevice: undefined,
    metadataDevice: undefined,
    dataLoopBytes: GIB,
    metadataLoopBytes: 16 << 20,
    blockSectors: 1024,
  });
  assert.deepEqual(options.mkfsArguments, ["-O", "^has_journal"]);
  assert.deepEqual(options.mount, { flags: MS_NODEV | MS_NOATIME, data: "data=ordered" });
  assert.deepEqual(
    [options.fileSystem, options.discard, options.deferredRemoval, options.deferredDeletion],
    ["ext4", false, true, false],
  );
  assert.deepEqual([options.minFreePercent, options.xfsNospaceRetries], [0, 0]);
});

test("a pool that is given is not discarded to unless asked for", () => {
  const ready = parseDevicemapperOptions({ "dm.thinpooldev": "/dev/mapper/vg-pool" });
  assert.deepEqual(ready.pool, { kind: "ready", name: "vg-pool" });
  assert.equal(ready.discard, false);
  assert.equal(parseDevicemapperOptions({ "dm.thinpooldev": "p", "dm.blkdiscard": "1" }).discard, true);
  assert.equal(parseDevicemapperOptions({ "dm.datadev": "/dev/sdb" }).discard, false);
  assert.equal(parseDevicemapperOptions({ "dm.use_deferred_removal": "false" }).deferredDeletion, false);
});

test("direct-lvm: what was asked for, as Docker keeps it", () => {
  const { pool } = parseDevicemapperOptions({
    "dm.directlvm_device": "/dev/xvdf",
    "dm.thinp_percent": "90%",
    "dm.thinp_metapercent": "5",
    "dm.thinp_autoextend_threshold": "70",
    "dm.directlvm_device_force": "true",
  });
  assert.ok(pool.kind === "direct-lvm" && pool.force);
  assert.equal(
    formatConfig(pool.config),
    '{"Device":"/dev/xvdf","ThinpPercent":90,"ThinpMetaPercent":5,"AutoExtendPercent":0,"AutoExtendThreshold":70}',
  );
});

test("mount options: later ones win", () => {
  assert.deepEqual(parseMountOptions("noatime, atime,,nodev,discard"), { flags: MS_NODEV, data: "discard" });
});

test("what Docker refuses is refused, in its words", () => {
  const refused = (given: Record<string, string>, text: RegExp): void => {
    assert.throws(
      () => parseDevicemapperOptions(given),
      (error) => {
        assert.ok(error instanceof LamellaError && error.kind === "invalid_argument", `${error}`);
        assert.match(`${error.message} ${error.hint}`, text);
        return true;
      },
    );
  };
  refused({ "dm.unknown": "1" }, /unknown option dm\.unknown.*known are dm\.thinpooldev, .*dm\.libdm_log_level/);
  refused({ "dm.basesize": "big" }, /such as 10G/);
  refused({ "dm.fs": "btrfs" }, /devmapper: Unsupported filesystem btrfs/);
  refused({ "dm.blkdiscard": "maybe" }, /true or false/);
  refused({ "dm.blocksize": "100K" }, /multiple of 64K/);
  refused({ "dm.min_free_space": "10" }, /devmapper: Option dm\.min_free_space requires % suffix/);
  refused({ "dm.min_free_space": "100%" }, /devmapper: Invalid value 100% for option dm\.min_free_space/);
  refused({ "dm.xfs_nospace_max_retries": "-1" }, /whole number/);
  refused({ "dm.libdm_log_level": "1" }, /dm\.libdm_log_level must be in range \[2,7\]/);
  refused({ "dm.libdm_log_level": "debug" }, /could not parse/);
  refused(
    { "dm.use_deferred_removal": "false", "dm.use_deferred_deletion": "true" },
    /Deferred deletion can not be enabled as deferred removal is not enabled/,
  );
  const device = { "dm.directlvm_device": "/dev/xvdf" };
  refused({ "dm.thinp_percent": "95" }, /must provide device path in `dm\.directlvm_device`/);
  refused({ ...device, "dm.thinp_percent": "95" }, /must set both `dm\.thinp_percent` and `dm\.thinp_metapercent`/);
  refused({ ...device, "dm.thinp_percent": "100" }, /dm\.thinp_percent must be greater than 0 and less than 100/);
  refused({ ...device, "dm.thinp_percent": "60", "dm.thinp_metapercent": "50" }, /must not be greater than 100/);
  refused({ ...device, "dm.thinp_autoextend_percent": "101" }, /dm\.thinp_autoextend_percent must be/);
  refused({ ...device, "dm.thinpooldev": "pool" }, /cannot setup direct-lvm when `dm\.thinpooldev`/);
});
