/** Findings that `lamella doctor --fix` cures. */
import type { FindingId } from "../findings/finding.ts";

const curable = [
  "naive-diff-redirect-dir",
  "naive-diff-metacopy",
  "naive-diff-redirect-dir-and-metacopy",
  "overlay-changed-since-start",
  "overlay-changes-at-reboot",
  "naive-diff-driver",
  "vfs-fallback",
  "loop-lvm",
  "driver-deprecated",
  "naive-diff-podman",
  "naive-diff-podman-remembered",
  "orphan-layers",
  "root-open-to-others",
] as const satisfies readonly FindingId[];

export type CurableId = (typeof curable)[number];

export function isCurable(id: FindingId): id is CurableId {
  return (curable as readonly FindingId[]).includes(id);
}
