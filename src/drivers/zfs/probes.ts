/**
 * What the zfs driver asks the host: the programs, whether ZFS answers them, the dataset to work below, and a trial dataset
 * (./trial.ts). A required no ends it: what comes after would have the same reason.
 */

import { findProgram } from "../../fs/find-program.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import * as raw from "../../sys/raw.ts";
import type { ProbeResult } from "../driver.ts";
import { askPrograms, mounterHere } from "./abilities.ts";
import { datasetOf, isDatasetName } from "./parent-dataset.ts";
import { complaintOf, Programs } from "./programs.ts";
import { type Say, sayTrial, type ZfsHost } from "./trial.ts";

export interface Examination {
  readonly results: readonly ProbeResult[];
  /** Undefined when a required answer is no. */
  readonly host: ZfsHost | undefined;
}

const CAP_SYS_ADMIN = 21n;

/** Examines the host; `fsname` is the parent dataset asked for. Leaves nothing behind. */
export async function examine(home: ByteString, fsname: string | undefined): Promise<Examination> {
  const results: ProbeResult[] = [];
  const say: Say = (name, ok, reason, { remedy = "", required = true } = {}) => {
    results.push(ok ? { name, ok, reason, required } : { name, ok, reason, required, remedy });
    return ok;
  };
  const refused = (): Examination => ({ results, host: undefined });

  const [zfs, zpool] = ["zfs", "zpool"].map((name) => findProgram(name));
  const found = `${zfs ?? "no zfs"}, ${zpool ?? "no zpool"}`;
  say("programs", zfs !== undefined && zpool !== undefined, found, {
    remedy: "install zfsutils-linux with the module zfs (OpenZFS), or zfs-fuse",
  });
  if (zfs === undefined || zpool === undefined) return refused();
  const programs = new Programs(zfs, zpool);

  const sets = raw.capget();
  const isPrivileged = typeof sets !== "number" && (sets.effective & (1n << CAP_SYS_ADMIN)) !== 0n;
  const privileges = isPrivileged
    ? "this process has CAP_SYS_ADMIN"
    : "making and mounting datasets needs CAP_SYS_ADMIN";
  if (!say("privileges", isPrivileged, privileges, { remedy: "run as root" })) return refused();

  const pools = programs.zpoolSync(["list", "-H", "-o", "name"]);
  const answers = pools.refusal === undefined ? "zpool lists the pools" : complaintOf(pools);
  const remedy = "load the module (`modprobe zfs`), or start the zfs-fuse daemon";
  if (!say("zfs_answers", pools.refusal === undefined, answers, { remedy })) return refused();

  const parent = await sayParent(programs, home, fsname, say);
  if (parent === undefined) return refused();
  const abilities = await askPrograms(programs);
  const host: ZfsHost = { abilities, mounter: mounterHere(), parent };
  if (!sayTrial({ programs, host, home }, say)) return refused();

  say("zfs_diff", abilities.diff, `this zfs has ${abilities.diff ? "" : "no "}\`zfs diff\``, {
    required: false,
    remedy: "OpenZFS has it; without it a layer's tree is walked, and its parent's only where something changed",
  });
  return { results, host };
}

async function sayParent(
  programs: Programs,
  home: ByteString,
  fsname: string | undefined,
  say: Say,
): Promise<string | undefined> {
  const remedy = "put the root on a ZFS dataset, or name one: `--driver-opt zfs.fsname=POOL/DATASET`";
  const name = fsname ?? datasetOf(home);
  if (name === undefined) {
    say("parent_dataset", false, `${textOfBytes(home)} is not on ZFS`, { remedy });
    return undefined;
  }
  const answer = isDatasetName(name) ? await programs.zfs(["list", "-H", "-o", "type", name]) : undefined;
  const isFileSystem = answer?.stdout.trim() === "filesystem";
  const reason =
    answer === undefined
      ? `${name} is not the name of a dataset`
      : isFileSystem
        ? `layers are made below ${name}`
        : answer.refusal === undefined
          ? `${name} is a ${answer.stdout.trim()}, not a file system`
          : complaintOf(answer);
  return say("parent_dataset", isFileSystem, reason, { remedy }) ? name : undefined;
}
