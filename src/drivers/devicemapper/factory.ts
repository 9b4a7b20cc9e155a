/** Makes devicemapper drivers. */
import { makeDirectory } from "../../fs/durable-file.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as dm from "../../sys/device-mapper.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory } from "../driver.ts";
import { unsupported } from "../layer-errors.ts";
import { optionError } from "../option-values.ts";
import { treeFolders } from "../tree-driver.ts";
import { BaseDevice } from "./base-device.ts";
import { DevicemapperDriver } from "./devicemapper.ts";
import { DIRECT_LVM_POOL, ensureDirectLvm } from "./direct-lvm.ts";
import { parseDevicemapperOptions } from "./options.ts";
import { hasDeferredRemoval, probeDevicemapper } from "./probes.ts";
import { DeviceRecords } from "./records.ts";
import { ThinDevices } from "./thin-devices.ts";
import { ThinPool } from "./thin-pool.ts";

const folders = [...treeFolders, ["/metadata", 0o700], ["/trees", 0o700]] as const;

export const devicemapperFactory: DriverFactory = {
  name: "devicemapper",
  layersFolder: "metadata",
  probe: async (home) => probeDevicemapper(home),
  open: async (home, given) => {
    const options = parseDevicemapperOptions(given);
    const lacking = probeDevicemapper(home).find((probe) => probe.required && !probe.ok);
    if (lacking !== undefined) throw unsupported("devicemapper", home, lacking.reason, lacking.remedy ?? "");
    for (const [name, mode] of folders) makeDirectory(`${home}${name}`, mode);
    const choice = options.pool;
    if (choice.kind === "direct-lvm") await ensureDirectLvm(home, choice.config, choice.force);
    const canDefer = hasDeferredRemoval(dm.version());
    if (options.deferredRemoval && !canDefer)
      throw optionError("devmapper: Deferred removal can not be enabled as kernel does not support it");
    const deferredRemoval = options.deferredRemoval ?? canDefer;
    const deferredDeletion = options.deferredDeletion ?? deferredRemoval;
    const prefix = devicePrefix(home);
    const poolChoice = choice.kind === "direct-lvm" ? ({ kind: "ready", name: DIRECT_LVM_POOL } as const) : choice;
    const pool = new ThinPool(poolChoice, prefix, `${home}/devicemapper`);
    const records = new DeviceRecords(`${home}/metadata`);
    const devices = new ThinDevices(pool, records, {
      folder: `${home}/.lamella`,
      prefix,
      deferredRemoval,
      deferredDeletion,
      discard: options.discard,
      minFreePercent: options.minFreePercent,
    });
    const base = new BaseDevice(devices, options, `${home}/.lamella`);
    await base.prepare();
    return new DevicemapperDriver(home, { options, devices, base, deferredRemoval, deferredDeletion });
  },
};

/** Docker's, under our own name: a home is told from others by its device and its inode. */
function devicePrefix(home: ByteString): string {
  const { devMajor, devMinor, inoLow, inoHigh } = sys.statx(AT_FDCWD, home, 0);
  return `lamella-${devMajor}:${devMinor}-${inoHigh * 2 ** 32 + inoLow}`;
}
