/**
 * A trial dataset: made below the parent dataset, mounted, tried and destroyed. It is named after the time, so that one that a
 * crash has left can be told.
 */
import { randomBytes } from "node:crypto";
import { isLamellaError, type LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { umount } from "../../fs/mounts.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_RDWR } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import type { Mounter, ProgramAbilities } from "./abilities.ts";
import { attachDataset } from "./attach.ts";
import { letDaemonCatchUp } from "./catch-up.ts";
import { type Programs, zfsError } from "./programs.ts";

/** What the driver needs to know of the host. */
export interface ZfsHost {
  readonly abilities: ProgramAbilities;
  readonly mounter: Mounter;
  /** The dataset that the layers' datasets are made below. */
  readonly parent: string;
}

/** Notes an answer, which it returns; `required` when not said otherwise. */
export type Say = (
  name: string,
  ok: boolean,
  reason: string,
  more?: { readonly remedy?: string; readonly required?: boolean },
) => boolean;

export interface TrialPlace {
  readonly programs: Programs;
  readonly host: ZfsHost;
  readonly home: ByteString;
}

const PREFIX = "lamella-trial-";
/** A trial takes less than a second; one this old has lost its process. */
const STALE_SEC = 60;

/** True for the name of a trial dataset, below its parent, that a crash has left. */
export function isStaleTrial(name: string): boolean {
  const seconds = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
  return seconds !== undefined && Date.now() / 1000 - Number(seconds) > STALE_SEC;
}

/** Makes a dataset, mounts it, and tries what not every ZFS has. */
export function sayTrial(place: TrialPlace, say: Say): boolean {
  const { programs, host, home } = place;
  const seconds = Math.floor(Date.now() / 1000);
  const dataset = `${host.parent}/${PREFIX}${seconds}-${randomBytes(4).toString("hex")}`;
  const { abilities, mounter } = host;
  return withTrialDirectory(home, (directory) => {
    try {
      const properties = [
        mounter === "kernel" ? "mountpoint=legacy" : `mountpoint=${textOfBytes(directory)}`,
        ...(mounter === "kernel" ? [] : ["canmount=noauto"]),
        ...(abilities.posixAcl ? ["acltype=posixacl"] : []),
        ...(abilities.xattrInInode ? ["xattr=sa"] : []),
      ];
      const made = programs.zfsSync(["create", ...properties.flatMap((one) => ["-o", one]), dataset]);
      if (made.refusal !== undefined) throw zfsError(`make the dataset ${dataset}`, made);
      attachDataset({ programs, mounter }, dataset, directory);
    } catch (error) {
      if (!isLamellaError(error)) throw error;
      programs.zfsWhenFreeSync(["destroy", dataset]);
      return say("trial_dataset", false, error.message, { remedy: error.hint ?? "see what `zfs` and `dmesg` say" });
    }
    try {
      say("trial_dataset", true, `a dataset below ${host.parent} was made and mounted by the ${mounter}`);
      sayWhatIsKept(directory, mounter, say);
      return true;
    } finally {
      letDaemonCatchUp(dataset);
      umount(directory);
      programs.zfsWhenFreeSync(["destroy", dataset]);
    }
  });
}

/** What a file of the trial dataset keeps. */
function sayWhatIsKept(directory: ByteString, mounter: Mounter, say: Say): void {
  const path = `${directory}/file`;
  using _file = sys.open(path, O_RDWR | O_CREAT, 0o600);
  const kept = (name: string, value: Buffer): string | undefined => {
    try {
      sys.lsetxattrat(AT_FDCWD, path, name, value);
      return undefined;
    } catch (error) {
      if (!hasCode(error, "EOPNOTSUPP") && !hasCode(error, "EINVAL")) throw error;
      return (error as LamellaError).message;
    }
  };
  const noXattr = kept("trusted.lamella", Buffer.from("x")) ?? kept("user.lamella", Buffer.from("x"));
  const xattrRemedy =
    mounter === "daemon"
      ? "start the daemon with `--enable-xattr`, or say `enable-xattr` in /etc/zfs/zfsrc"
      : "the datasets need the property xattr=sa or xattr=on";
  say("xattr", noXattr === undefined, noXattr ?? "extended attributes are kept", {
    required: false,
    remedy: xattrRemedy,
  });
  const noAcl = kept("system.posix_acl_access", someAcl());
  say("posix_acl", noAcl === undefined, noAcl ?? "POSIX ACLs are kept", {
    required: false,
    remedy: mounter === "daemon" ? xattrRemedy : "the datasets need the property acltype=posixacl",
  });
  sys.utimensat(AT_FDCWD, path, { atimeSec: 1, atimeNsec: 5, mtimeSec: 1, mtimeNsec: 5 });
  const exact = sys.statx(AT_FDCWD, path).mtimeNsec === 5;
  say("nanoseconds", exact, exact ? "times are kept to the nanosecond" : "times are kept in whole seconds", {
    required: false,
    remedy: "OpenZFS keeps nanoseconds; with zfs-fuse a layer's times lose them",
  });
}

/** An access ACL with a named user (include/uapi/linux/posix_acl_xattr.h). */
function someAcl(): Buffer {
  const none = 0xffffffff;
  const entries = [
    [0x01, 6, none],
    [0x02, 6, 1],
    [0x04, 4, none],
    [0x10, 6, none],
    [0x20, 4, none],
  ] as const;
  const buffer = Buffer.alloc(4 + entries.length * 8);
  buffer.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    buffer.writeUInt16LE(tag, 4 + i * 8);
    buffer.writeUInt16LE(permissions, 6 + i * 8);
    buffer.writeUInt32LE(id, 8 + i * 8);
  }
  return buffer;
}
