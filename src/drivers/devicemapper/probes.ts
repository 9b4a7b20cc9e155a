/** What the host must have for this driver, asked one by one. Nothing is made or changed. */
import { existsSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import * as dm from "../../sys/device-mapper.ts";
import * as raw from "../../sys/raw.ts";
import type { ProbeResult } from "../driver.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import { directLvmTools } from "./direct-lvm.ts";
import { fileSystemLack, findTool } from "./tools.ts";

const CAP_SYS_ADMIN = 21n;

/** Version of the ioctl interface from which a device can be removed when it is closed. */
export function hasDeferredRemoval([major, minor]: readonly [number, number, number]): boolean {
  return major > 4 || (major === 4 && minor >= 27);
}

export function probeDevicemapper(home: ByteString): readonly ProbeResult[] {
  const privileged = privileges();
  if (!privileged.ok) return [privileged];
  return [privileged, ...deviceMapper(), loopDevices(), withTrialDirectory(home, fileSystems), lvm()];
}

function privileges(): ProbeResult {
  const sets = raw.capget();
  const ok = typeof sets !== "number" && (sets.effective & (1n << CAP_SYS_ADMIN)) !== 0n;
  if (ok) return { name: "privileges", ok, reason: "this process has CAP_SYS_ADMIN", required: true };
  const reason = "this process lacks CAP_SYS_ADMIN, which devices and mounts need";
  return { name: "privileges", ok, reason, remedy: "run as root, outside user namespaces", required: true };
}

function deviceMapper(): readonly ProbeResult[] {
  const name = "device_mapper";
  try {
    const version = dm.version();
    const reason = `/dev/mapper/control answers, interface version ${version.join(".")}`;
    return [{ name, ok: true, reason, required: true }, thinPool(), deferredRemoval(version)];
  } catch (error) {
    if (!(error instanceof LamellaError)) throw error;
    const remedy =
      error.code === "ENOENT" || error.code === "ENODEV" || error.code === "ENXIO"
        ? "load the module dm_mod, or run a kernel with CONFIG_BLK_DEV_DM; in a container, pass in /dev/mapper/control"
        : "run as root, outside user namespaces and where no filter forbids the device mapper's ioctls";
    return [{ name, ok: false, reason: `/dev/mapper/control: ${error.message}`, remedy, required: true }];
  }
}

function thinPool(): ProbeResult {
  const name = "thin_pool";
  const version = dm.targetVersion("thin-pool");
  if (version !== undefined)
    return { name, ok: true, reason: `the kernel has the target thin-pool ${version.join(".")}`, required: true };
  const remedy = "load the module dm_thin_pool, or run a kernel with CONFIG_DM_THIN_PROVISIONING";
  return { name, ok: false, reason: "the kernel has no target thin-pool", remedy, required: true };
}

function deferredRemoval(version: readonly [number, number, number]): ProbeResult {
  const name = "deferred_removal";
  if (hasDeferredRemoval(version))
    return { name, ok: true, reason: "a device in use can be removed when it is closed", required: false };
  const reason = "the device mapper is older than 4.27: a device in use cannot be set to go when it is closed";
  return { name, ok: false, reason, remedy: "Linux 3.13 or newer", required: false };
}

function loopDevices(): ProbeResult {
  const name = "loop";
  if (existsSync("/dev/loop-control")) return { name, ok: true, reason: "/dev/loop-control is there", required: false };
  const reason = "/dev/loop-control is not there: the driver cannot make a pool over files";
  const remedy = "load the module loop, or give a pool: dm.thinpooldev, dm.directlvm_device";
  return { name, ok: false, reason, remedy, required: false };
}

function fileSystems(directory: ByteString): ProbeResult {
  const name = "file_system";
  const lacks = (["xfs", "ext4"] as const).map((fileSystem) => [fileSystem, fileSystemLack(fileSystem, directory)]);
  const can = lacks.filter(([, lack]) => lack === undefined).map(([fileSystem]) => fileSystem);
  if (can.length > 0) return { name, ok: true, reason: `${can.join(" and ")} can be made and mounted`, required: true };
  const reason = lacks.map(([, lack]) => lack).join("; ");
  return { name, ok: false, reason, remedy: "install xfsprogs or e2fsprogs", required: true };
}

function lvm(): ProbeResult {
  const name = "lvm";
  const missing = directLvmTools.filter((tool) => findTool(tool) === undefined);
  if (missing.length === 0) return { name, ok: true, reason: "LVM can set up a pool (direct-lvm)", required: false };
  const reason = `dm.directlvm_device cannot be used: ${missing.join(", ")} not installed`;
  return { name, ok: false, reason, remedy: "install lvm2 and thin-provisioning-tools", required: false };
}
