/** What a finding is. Its id is stable: scripts may rely on it. */

/**
 * - `error`: something is broken, or will be soon;
 * - `warning`: it works, and costs time, space or safety;
 * - `note`: true of every host of this kind and worth knowing; a host with nothing but notes is healthy.
 */
export type Severity = "error" | "warning" | "note";

/** A file or command, and what it said. */
export interface Evidence {
  readonly source: string;
  readonly said: string;
}

export interface Finding {
  readonly id: FindingId;
  readonly severity: Severity;
  /** What it is about: an engine with its data root, or the host. */
  readonly subject: string;
  /** One sentence for somebody who has never heard of any of it. */
  readonly sentence: string;
  readonly evidence: readonly Evidence[];
  /** What it costs. */
  readonly cost: string;
  /** What to do about it, one way each, the best first. Words: `doctor` changes nothing. */
  readonly cures: readonly string[];
}

/** Every id, in the order findings are shown within a severity. */
export const findingIds = [
  "layer-links-broken",
  "layers-missing",
  "layer-metadata-empty",
  "layer-files-empty",
  "d-type-missing",
  "user-namespaces-off",
  "inodes-nearly-gone",
  "space-nearly-gone",
  "layer-limit-near",
  "naive-diff-redirect-dir",
  "naive-diff-metacopy",
  "naive-diff-redirect-dir-and-metacopy",
  "naive-diff-other",
  "naive-diff-driver",
  "naive-diff-podman",
  "naive-diff-podman-remembered",
  "overlay-changed-since-start",
  "overlay-changes-at-reboot",
  "modprobe-options-unheeded",
  "loop-lvm",
  "vfs-fallback",
  "driver-removed",
  "driver-deprecated",
  "several-drivers",
  "orphan-layers",
  "root-open-to-others",
  "root-on-network",
  "runtime-known-escapes",
  "root-in-memory",
  "classic-builder",
  "directory-rename-exdev",
  "docker-diff-naive",
] as const;

export type FindingId = (typeof findingIds)[number];
