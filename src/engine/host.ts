/** Facts of the host that `info` shows beside the driver's own. */
import { readFileSync } from "node:fs";
import { machine, release } from "node:os";

/** One line of a uid or gid map: `count` ids from `inside` are those from `outside` of the parent namespace. */
export interface IdMapping {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

export interface HostFacts {
  /** Kernel release, as `uname -r`. */
  readonly kernel: string;
  /** As `uname -m`. */
  readonly machine: string;
  /** The user namespace this process is in; undefined in the host's own. */
  readonly userNamespace: { readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] } | undefined;
}

const allIds = 4294967295;

export function hostFacts(): HostFacts {
  const uids = idMappings("uid");
  const gids = idMappings("gid");
  const isInitial = uids.length === 1 && uids[0]?.inside === 0 && uids[0].outside === 0 && uids[0].count === allIds;
  return {
    kernel: release(),
    machine: machine(),
    userNamespace: isInitial ? undefined : { uids, gids },
  };
}

function idMappings(kind: "uid" | "gid"): IdMapping[] {
  const lines = readFileSync(`/proc/self/${kind}_map`, "latin1").trim().split("\n").filter(Boolean);
  return lines.map((line) => {
    const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number);
    return { inside, outside, count };
  });
}
