/** Findings about where data roots lie, and what overlayfs does there: file systems that lose them, renames that fail. */
import type { DockerFacts, Facts, OverlayTrial, RootFacts } from "../facts.ts";
import type { Finding } from "./finding.ts";
import { type RemoteKind, remoteFileSystem } from "./remote-file-systems.ts";
import { subjectOf } from "./subject.ts";

export function placeFindings(facts: Facts): Finding[] {
  return [...inMemory(facts), ...onNetwork(facts), ...facts.docker.flatMap((one) => renames(facts, one))];
}

function inMemory({ roots }: Facts): Finding[] {
  return Object.values(roots)
    .filter(({ fileSystem }) => fileSystem === "tmpfs" || fileSystem === "ramfs")
    .map((root) => ({
      id: "root-in-memory" as const,
      severity: "note" as const,
      subject: root.path,
      sentence: "The images are in memory: they are gone after a reboot, and what they take is missing elsewhere.",
      evidence: [mounted(root)],
      cost: "Images are pulled and built again after every reboot",
      cures: ["none where it is meant so (throw-away CI machines); else move the data root to a disk"],
    }));
}

function onNetwork({ roots }: Facts): Finding[] {
  return Object.values(roots).flatMap((root): Finding[] => {
    const remote = remoteFileSystem(root);
    if (remote === undefined) return [];
    const { trial } = root;
    return [
      {
        id: "root-on-network",
        severity: "warning",
        subject: root.path,
        sentence: `The images are on ${remoteText[remote.kind]} (${remote.name}), where overlayfs ${overlayText(trial)}.`,
        evidence: [
          mounted(root),
          ...(trial === undefined
            ? []
            : [{ source: `a trial mount in ${root.path}`, said: trial.error ?? "overlayfs works" }]),
        ],
        cost: "Every look at a file's attributes asks another machine; two engines on one such directory damage each other's data",
        cures: ["put the data root on a disk of this machine, or on a block device (iSCSI, NBD) with ext4 or xfs"],
      },
    ];
  });
}

const remoteText = {
  network: "a network file system",
  cluster: "a file system that several machines write to",
  host: "a directory of the machine that this one runs in",
} as const satisfies Record<RemoteKind, string>;

function overlayText(trial: OverlayTrial | undefined): string {
  if (trial === undefined) return "mostly cannot write, and then engines fall back to copying whole images";
  return trial.error === undefined
    ? "works, with every step waiting for the other side"
    : "does not work, so that engines fall back to copying whole images";
}

function mounted({ path, mountPoint, mountType, device, fileSystem }: RootFacts): { source: string; said: string } {
  const where = mountPoint === undefined ? "" : ` at ${mountPoint}`;
  return {
    source: `/proc/self/mountinfo, for ${path}`,
    said: `${mountType ?? fileSystem}${where}${device ? `, from ${device}` : ""}`,
  };
}

/** What was tried, or what the daemon says of itself: without redirects a directory of the image cannot be renamed in one go. */
function renames({ roots }: Facts, docker: DockerFacts): Finding[] {
  const { trial } = roots[docker.root] ?? {};
  const isOverlay = !docker.containerdStore && (docker.driver === "overlay2" || docker.driver === "overlay");
  if (!isOverlay || trial === undefined || trial.error !== undefined || trial.redirects) return [];
  return [
    {
      id: "directory-rename-exdev",
      severity: "note",
      subject: subjectOf(docker),
      sentence:
        "In containers and build steps, renaming a directory that comes from the image fails (EXDEV, `Invalid cross-device link`): the price of the native diff. Most programs then copy it instead; some package managers stop.",
      evidence: [
        {
          source: `a trial mount in ${docker.root}`,
          said: "a directory of a lower layer could not be renamed in one go",
        },
      ],
      cost: "`mv` of such a directory copies all of it; npm, pip, pnpm, dpkg and others have stopped with EXDEV when they update what the image brought",
      cures: [
        "in a Dockerfile, install and update a program in one RUN step, so that its directories are new and not the image's",
        "do not turn redirect_dir on for it: builds would get slow",
      ],
    },
  ];
}
