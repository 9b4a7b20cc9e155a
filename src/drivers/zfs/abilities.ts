/**
 * What the host's ZFS can do, found by asking it, not by its version: the programs print in their usage which subcommands,
 * flags and properties they know, and the kernel which file systems it can mount.
 *
 * OpenZFS is a file system of the kernel: a dataset with `mountpoint=legacy` is mounted by mount(2). With zfs-fuse the daemon
 * mounts, in its own mount namespace, and where the property `mountpoint` says: `zfs mount` asks it to.
 */
import { readFileSync } from "node:fs";
import type { Programs } from "./programs.ts";

/** What `zfs` prints of itself. */
export interface ProgramAbilities {
  /** It has `zfs diff`. */
  readonly diff: boolean;
  /** `zfs destroy -d`: a snapshot with clones goes with the last of them. */
  readonly deferredDestroy: boolean;
  /** The property `acltype` can be `posixacl`. */
  readonly posixAcl: boolean;
  /** The property `xattr` can be `sa`: attributes lie in the inode. */
  readonly xattrInInode: boolean;
}

/** Who mounts. */
export type Mounter = "kernel" | "daemon";

/** Reads what `zfs` alone and `zfs get` alone print on standard error. */
export function parseUsage(commands: string, properties: string): ProgramAbilities {
  const lines = commands.split("\n").map((line) => line.trim());
  const property = (name: string): string =>
    properties.split("\n").find((line) => line.trim().split(/\s+/)[0] === name) ?? "";
  return {
    diff: lines.some((line) => /^diff\s/.test(line)),
    deferredDestroy: lines.some((line) => /^destroy \[-\w*d\w*\].*(?:snap|@)/.test(line)),
    posixAcl: /\bposix(?:acl)?\b/.test(property("acltype")),
    xattrInInode: /\bsa\b/.test(property("xattr")),
  };
}

/** Asks `zfs` what it can do. */
export async function askPrograms(programs: Programs): Promise<ProgramAbilities> {
  const [commands, properties] = await Promise.all([programs.zfs([]), programs.zfs(["get"])]);
  return parseUsage(commands.stderr, properties.stderr);
}

/** The kernel mounts ZFS when it has it among its file systems; a module not loaded yet is not among them. */
export function mounterHere(): Mounter {
  const known = readFileSync("/proc/filesystems", "latin1").split("\n");
  return known.some((line) => line.trim().split(/\s+/).at(-1) === "zfs") ? "kernel" : "daemon";
}
