/**
 * Finding what differs between two trees, by whatever is known of them. A hint that does not hold is passed over: then the
 * trees are compared whole, as they are without one.
 */
import { readlinkSync } from "node:fs";
import { fileSystemName } from "../fs/file-system-name.ts";
import { readMountInfo } from "../fs/mountinfo.ts";
import { BOTH, type Marker, WorkShare } from "../fs/walk-share.ts";
import * as C from "../sys/constants.ts";
import * as raw from "../sys/raw.ts";
import { fstat, statfs } from "../sys/syscalls.ts";
import { sendCandidates } from "./btrfs-candidates.ts";
import { clockDoubt } from "./clock-stamp.ts";
import type { CandidatesHint, SendHint, TreesHint } from "./source.ts";
import { loadManifest } from "./tree-manifest-read.ts";
import { compareCandidates } from "./trees-candidates.ts";
import { deviceOf } from "./trees-device.ts";
import { addFindings, type Findings } from "./trees-findings.ts";
import { missingLinks } from "./trees-inode-links.ts";
import type { Birth } from "./trees-known.ts";
import { type KnownOf, knownFrom } from "./trees-known-of.ts";
import { type CompareOptions, compareTrees } from "./trees-threads.ts";

const OVERLAYFS_SUPER_MAGIC = 0x794c7630;

/**
 * File systems of which every write, those through maps too, gives the file a new change time of this host's clock. tmpfs
 * is none: pages of a map that were read first are written to unnoticed. Neither are those whose server has the clock. Who
 * gives a hint about a clone knows what it is a clone of.
 */
const notesChanges: ReadonlySet<string> = new Set(["extfs", "xfs", "btrfs", "zfs", "f2fs", "bcachefs"]);

/** The roots of two trees, open. */
export interface Roots {
  readonly treeFd: number;
  readonly parentFd: number;
}

export interface FoundChanges {
  readonly findings: Findings;
  /** Why the hint was passed over. */
  readonly doubt: string | undefined;
}

/** A hint that leaves something to find. */
export type FoundHint = Exclude<TreesHint, { kind: "none" }>;

/** Compares the trees by the hint, or whole. */
export function findChanges(roots: Roots, hint: FoundHint | undefined, options: CompareOptions): FoundChanges {
  if (hint?.kind === "candidates") return { findings: atCandidates(roots, hint, options), doubt: undefined };
  if (hint?.kind === "btrfs-send") {
    const found = sendCandidates(roots, options.check);
    if (typeof found !== "string") return findChanges(roots, found, options);
    const { findings, doubt } = findChanges(roots, hint.otherwise, options);
    return { findings, doubt: doubt === undefined ? found : `${found}; ${doubt}` };
  }
  const known = hint === undefined ? undefined : knownBy(hint, roots);
  if (known === undefined || typeof known === "string") {
    const nothing: KnownOf = { kind: "nothing", upperBirth: upperBirth(roots) };
    return {
      findings: compareTrees({ ...roots, share: WorkShare.start(BOTH).memory, known: nothing }, options),
      doubt: known,
    };
  }
  const marker: Marker = knownFrom(known).root(fstat(roots.treeFd), fstat(roots.parentFd));
  const findings = compareTrees({ ...roots, share: WorkShare.start(marker).memory, known }, options);
  if (known.kind === "inodes") findings.links.push(...missingLinks(roots.treeFd, findings.links, options.check));
  return { findings, doubt: undefined };
}

/** What a hint lets us know, or why it does not hold. */
function knownBy(hint: Exclude<FoundHint, CandidatesHint | SendHint>, roots: Roots): KnownOf | string {
  // Directory entries and change times tell of what is underneath a mount.
  if (isMountedIn(roots.treeFd) || isMountedIn(roots.parentFd)) return "something is mounted in one of the trees";
  const tree = fstat(roots.treeFd);
  switch (hint.kind) {
    case "inode":
      return { kind: "inodes" };
    case "clone": {
      const { clock } = hint;
      return (
        clockDoubt(clock) ?? { kind: "clone", clock, tree: deviceOf(tree), parent: deviceOf(fstat(roots.parentFd)) }
      );
    }
    case "manifest": {
      const fileSystem = fileSystemName(fileSystemOf(roots.treeFd));
      if (!notesChanges.has(fileSystem)) return `${fileSystem} does not note every change in the change time`;
      const manifest = loadManifest(hint.path);
      if (manifest === undefined) return "the manifest is missing or broken";
      const { clock, memory } = manifest;
      if (clock === undefined) return "the manifest has no clock stamp";
      return clockDoubt(clock) ?? { kind: "manifest", memory, tree: deviceOf(tree) };
    }
    default:
      return hint satisfies never;
  }
}

function atCandidates(roots: Roots, hint: CandidatesHint, options: CompareOptions): Findings {
  const { findings: found, walks } = compareCandidates(roots, hint, options.check);
  const known: KnownOf = { kind: "nothing", upperBirth: undefined };
  let findings = found;
  let next = 0;
  for (let first = walks[next++]; first !== undefined; first = walks[next++]) {
    const share = WorkShare.start(first);
    for (let more = walks[next]; more !== undefined && share.give(more); more = walks[next]) next++;
    findings = addFindings(findings, compareTrees({ ...roots, share: share.memory, known }, options));
  }
  return findings;
}

/** When both trees are overlay mounts: when the layer's upper directory was made, which its root is. */
function upperBirth({ treeFd, parentFd }: Roots): Birth | undefined {
  const overlays = [treeFd, parentFd].every((fd) => fileSystemOf(fd) === OVERLAYFS_SUPER_MAGIC);
  const birth = overlays ? raw.statxBirthTime(treeFd, "", C.AT_EMPTY_PATH) : undefined;
  return typeof birth === "number" ? undefined : birth;
}

/** The magic number of the file system. */
function fileSystemOf(fd: number): number {
  return statfs(`/proc/self/fd/${fd}`).type;
}

/** True when something is mounted below the directory, as the calling thread sees it. */
function isMountedIn(fd: number): boolean {
  const prefix = `${readlinkSync(`/proc/self/fd/${fd}`, "latin1")}/`;
  return readMountInfo().some(({ mountPoint }) => mountPoint.startsWith(prefix));
}
