/**
 * direct-lvm: a thin pool set up with LVM on a disk given (`dm.directlvm_device`), once. As Docker's, under names of its own:
 *
 *     volume group `lamella`, thin pool `lamella/thinpool`, which device mapper calls `lamella-thinpool`
 *     /etc/lvm/profile/lamella-thinpool.profile   when dmeventd lets the pool grow, and by how much
 *     <home>/setup-config.json                    what was asked for, in Docker's form; it cannot be changed later
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { readSmallFile } from "../small-file.ts";
import type { DirectLvm } from "./options.ts";
import { findTool, runTool } from "./tools.ts";

const GROUP = "lamella";
const PROFILES = "/etc/lvm/profile";
/** The programs it takes. */
export const directLvmTools = ["pvcreate", "vgcreate", "lvcreate", "lvconvert", "lvchange", "thin_check"] as const;

/** What device mapper calls the pool. */
export const DIRECT_LVM_POOL = `${GROUP}-thinpool`;

/** Sets the pool up unless it was. Errors: failed_precondition with what is in the way, or what LVM says. */
export async function ensureDirectLvm(home: ByteString, config: DirectLvm, force: boolean): Promise<void> {
  const path = `${home}/setup-config.json`;
  const wanted = formatConfig(config);
  const before = readSmallFile(path) ?? "";
  if (before !== "") {
    if (isSame(before, wanted)) return;
    throw new LamellaError("failed_precondition", "DIRECT_LVM", "changing direct-lvm config is not supported", {
      hint: `give what was given before: ${before}`,
    });
  }
  await checkDisk(config.device, force);
  await setUp(config);
  writeDurably(path, wanted, { mode: 0o600 });
}

/** Docker's form: the fields of its struct, in order. */
export function formatConfig(config: DirectLvm): string {
  return JSON.stringify({
    Device: config.device,
    ThinpPercent: config.thinpPercent,
    ThinpMetaPercent: config.thinpMetaPercent,
    AutoExtendPercent: config.autoExtendPercent,
    AutoExtendThreshold: config.autoExtendThreshold,
  });
}

function isSame(before: string, wanted: string): boolean {
  try {
    return JSON.stringify(JSON.parse(before)) === wanted;
  } catch {
    return false;
  }
}

async function checkDisk(device: string, force: boolean): Promise<void> {
  const group = await output("pvs", ["--noheadings", "-o", "vg_name", device]);
  if (group !== "")
    throw inTheWay(
      `${device} is already part of a volume group "${group}": ` +
        "must remove this device from any volume group or provide a different device",
    );
  if (force) return;
  if ((await output("blkid", ["-s", "TYPE", "-o", "value", device])) !== "")
    throw inTheWay(
      `${device} has a filesystem already, use dm.directlvm_device_force=true if you want to wipe the device`,
    );
}

function inTheWay(message: string): LamellaError {
  return new LamellaError("failed_precondition", "DIRECT_LVM", message);
}

/** What a program prints; nothing when it is not there, or finds nothing. */
async function output(name: string, args: readonly string[]): Promise<string> {
  if (findTool(name) === undefined) return "";
  return runTool(name, args).then(
    (text) => text.trim(),
    () => "",
  );
}

async function setUp(config: DirectLvm): Promise<void> {
  for (const name of directLvmTools) {
    if (findTool(name) !== undefined) continue;
    throw new LamellaError(
      "failed_precondition",
      "TOOL_MISSING",
      `error looking up command \`${name}\` while setting up direct lvm`,
      { hint: "install lvm2 and thin-provisioning-tools" },
    );
  }
  const shares = { data: config.thinpPercent || 95, metadata: config.thinpMetaPercent || 1 };
  const create = (name: string, percent: number): Promise<string> =>
    runTool("lvcreate", ["--wipesignatures", "y", "-y", "-n", name, GROUP, "--extents", `${percent}%VG`]);
  await runTool("pvcreate", ["-f", "-y", config.device]);
  await runTool("vgcreate", [GROUP, config.device]);
  await create("thinpool", shares.data);
  await create("thinpoolmeta", shares.metadata);
  const pool = ["--thinpool", `${GROUP}/thinpool`, "--poolmetadata", `${GROUP}/thinpoolmeta`];
  await runTool("lvconvert", ["-y", "--zero", "n", "-c", "512K", ...pool]);
  const profile = `activation{
thin_pool_autoextend_threshold=${config.autoExtendThreshold || 80}
thin_pool_autoextend_percent=${config.autoExtendPercent || 20}
}`;
  mkdirSync(PROFILES, { recursive: true, mode: 0o755 });
  writeFileSync(`${PROFILES}/${DIRECT_LVM_POOL}.profile`, profile, { mode: 0o600 });
  await runTool("lvchange", ["--metadataprofile", DIRECT_LVM_POOL, `${GROUP}/thinpool`]);
}
