/** Findings about the file system under a data root. */
import { humanSize } from "../../lib/human-size.ts";
import type { Facts, RootFacts } from "../facts.ts";
import type { Finding } from "./finding.ts";
import { infoCommand, statusOf, subjectOf } from "./subject.ts";

const lowSpaceBytes = 10e9;

export function diskFindings(facts: Facts): Finding[] {
  const inUse = Object.values(facts.roots);
  // Several roots on one file system run out together: said once.
  const byFileSystem = [...new Map(inUse.toReversed().map((root) => [root.mountPoint ?? root.path, root])).values()];
  return [
    ...byFileSystem.reverse().flatMap((root) => [...inodes(root), ...space(root)]),
    ...withoutDType(facts),
    ...openRoots(facts),
  ];
}

function inodes(root: RootFacts): Finding[] {
  const { totalInodes = 0, freeInodes = 0, path } = root;
  const share = freeInodes / totalInodes;
  if (totalInodes === 0 || share >= 0.1) return [];
  return [
    {
      id: "inodes-nearly-gone",
      severity: share < 0.02 ? "error" : "warning",
      subject: placeOf(root),
      sentence: `The file system has room for ${freeInodes} more files only, whatever space is free: images are made of many small files.`,
      evidence: [
        {
          source: `df -i ${path}`,
          said: `${totalInodes - freeInodes} of ${totalInodes} inodes used (${percent(1 - share)})`,
        },
      ],
      cost: "Pulls and builds fail with `no space left on device` while `df` shows free space",
      cures: [
        "remove images and containers that are not needed (`docker system prune`)",
        "ext4 fixes the number when it is made: make it anew with more (`mkfs.ext4 -i 4096`), or use xfs or btrfs, which have no such limit",
      ],
    },
  ];
}

function space(root: RootFacts): Finding[] {
  const { totalBytes = 0, availableBytes = 0, path } = root;
  const share = availableBytes / totalBytes;
  if (totalBytes === 0 || share >= 0.05 || availableBytes >= lowSpaceBytes) return [];
  return [
    {
      id: "space-nearly-gone",
      severity: share < 0.01 ? "error" : "warning",
      subject: placeOf(root),
      sentence: `The disk that holds the images is nearly full: ${humanSize(availableBytes)} are left.`,
      evidence: [{ source: `df ${path}`, said: `${humanSize(availableBytes)} of ${humanSize(totalBytes)} available` }],
      cost: "Pulls and builds fail, and file systems get slow when they are nearly full",
      cures: ["remove images and containers that are not needed (`docker system prune`)", "give it a larger disk"],
    },
  ];
}

function withoutDType(facts: Facts): Finding[] {
  const overlays = [
    ...facts.docker
      .filter(({ driver }) => driver === "overlay2" || driver === "overlay" || driver === "overlayfs")
      .map((docker) => ({ root: docker.root, subject: subjectOf(docker), docker })),
    ...facts.podman
      .filter(({ driver }) => driver === undefined || driver === "overlay")
      .map(({ root }) => ({ root, subject: `podman (${root})`, docker: undefined })),
    ...facts.containerd
      .filter(({ snapshotters }) => snapshotters.includes("overlayfs"))
      .map(({ root }) => ({ root, subject: `containerd (${root})`, docker: undefined })),
  ];
  return overlays.flatMap(({ root, subject, docker }): Finding[] => {
    const said = docker === undefined ? undefined : statusOf(docker, "Supports d_type");
    const place = facts.roots[root];
    if (said !== "false" && place?.dType !== false) return [];
    return [
      {
        id: "d-type-missing",
        severity: "error",
        subject,
        sentence:
          "The file system under the images was made without a feature (d_type) that overlayfs needs to hide deleted files.",
        evidence: [
          ...(docker !== undefined && said === "false"
            ? [{ source: infoCommand(docker), said: `Supports d_type: ${said}` }]
            : []),
          ...(place?.dType === false
            ? [
                {
                  source: `reading directories in ${root}`,
                  said: `types are missing (${place.fileSystem ?? "unknown file system"})`,
                },
              ]
            : []),
        ],
        cost: "Deleted files come back as strange entries, directories cannot be removed, builds fail at random; newer Docker does not start",
        cures: [
          "move the data root to a file system that has it: `mkfs.xfs -n ftype=1` (the default today), or ext4 with the feature `filetype`; it cannot be turned on later",
        ],
      },
    ];
  });
}

function openRoots({ docker, roots }: Facts): Finding[] {
  return docker.flatMap((one): Finding[] => {
    const { mode, openToOthers } = roots[one.root] ?? {};
    if (openToOthers !== true) return [];
    return [
      {
        id: "root-open-to-others",
        severity: "warning",
        subject: subjectOf(one),
        sentence:
          "Every user of this machine can go into Docker's data root, and so run programs with the set-user-ID bit out of images (CVE-2021-41091).",
        evidence: [{ source: `stat -c %a ${one.root}`, said: mode ?? "" }],
        cost: "A user may become root by way of a container",
        cures: [`\`chmod 0710 ${one.root}\`, as Docker sets it since 20.10.9`],
      },
    ];
  });
}

function placeOf({ path, mountPoint, fileSystem }: RootFacts): string {
  return `the ${fileSystem ?? ""} file system at ${mountPoint ?? path}`.replace("  ", " ");
}

function percent(share: number): string {
  return `${Math.floor(share * 1000) / 10} %`;
}
