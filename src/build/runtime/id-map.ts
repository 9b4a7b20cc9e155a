/** Which user and group ids exist in the user namespace this process is in. */
import { readFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";

interface Range {
  readonly first: number;
  readonly count: number;
}

function ranges(file: string): readonly Range[] {
  let text: string;
  try {
    text = readFileSync(file, "latin1");
  } catch {
    // No user namespaces in this kernel, or no /proc: all ids are there.
    return [{ first: 0, count: 2 ** 32 }];
  }
  return text
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter((fields) => fields.length === 3)
    .map(([first = 0, , count = 0]) => ({ first, count }));
}

export interface IdMaps {
  readonly uids: readonly Range[];
  readonly gids: readonly Range[];
  /** False in a user namespace whose creator may not set groups (a single mapping made without newgidmap). */
  readonly maySetGroups: boolean;
  /** True in a user namespace other than the first. */
  readonly nested: boolean;
}

/** The maps of this process. They do not change while it runs. */
export function readIdMaps(): IdMaps {
  const uids = ranges("/proc/self/uid_map");
  const gids = ranges("/proc/self/gid_map");
  let maySetGroups = true;
  try {
    maySetGroups = readFileSync("/proc/self/setgroups", "latin1").trim() !== "deny";
  } catch {
    // Before Linux 3.19 setting groups was always allowed.
  }
  return { uids, gids, maySetGroups, nested: !(uids.length === 1 && (uids[0]?.count ?? 0) >= 2 ** 32 - 1) };
}

function has(list: readonly Range[], id: number): boolean {
  return list.some(({ first, count }) => id >= first && id < first + count);
}

/** True when files can be owned by these ids and processes run as them. */
export function isMapped(maps: IdMaps, uid: number, gid: number): boolean {
  return has(maps.uids, uid) && has(maps.gids, gid);
}

/** Errors: failed_precondition (UNMAPPED_ID) with what the host needs, when `uid` or `gid` is not mapped. */
export function requireMapped(maps: IdMaps, uid: number, gid: number, what: string): void {
  if (isMapped(maps, uid, gid)) return;
  const total = maps.uids.reduce((sum, { count }) => sum + count, 0);
  throw new LamellaError(
    "failed_precondition",
    "UNMAPPED_ID",
    `${what} needs user ${uid} and group ${gid}, but only ${total === 1 ? "one id is" : `${total} ids are`} available without root`,
    {
      hint: "install uidmap (newuidmap, newgidmap) and give your user ranges in /etc/subuid and /etc/subgid, or run as root",
    },
  );
}
