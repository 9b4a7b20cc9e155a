/** Findings about the storage driver that Docker uses. */
import type { DockerFacts, Facts } from "../facts.ts";
import type { Evidence, Finding } from "./finding.ts";
import { infoCommand, statusOf, subjectOf } from "./subject.ts";

/** Drivers with Docker's naive diff, and what it costs there. aufs is none of them: it reads its own branch. */
const naiveDrivers: Readonly<Record<string, string>> = {
  zfs: "every file of both trees is looked at, as two datasets share no inode numbers; on large images a step that changes nothing takes minutes",
  btrfs: "every file of both trees is looked at, although btrfs itself knows what changed between two subvolumes",
  vfs: "every layer is a whole copy of the one below, and then every file of both is looked at",
  devicemapper: "two block devices are mounted and every file on both is looked at",
  "fuse-overlayfs":
    "every file of both trees is looked at, through a file system in user space, which is some times slower still",
  overlay: "directories that are hard links of each other are skipped, but each diff waits for the next full second",
};

/** The first Docker version without a driver. */
const removedIn: Readonly<Record<string, number>> = { aufs: 24, overlay: 24, devicemapper: 25 };

export function driverFindings(facts: Facts): Finding[] {
  return facts.docker.flatMap((docker) => [
    ...naiveByDriver(facts, docker),
    ...vfsFallback(facts, docker),
    ...loopLvm(docker),
    ...removed(docker),
    ...deprecated(docker),
    ...severalDrivers(docker),
  ]);
}

/** Where the driver's name comes from. */
function driverSays(docker: DockerFacts): Evidence {
  return docker.running
    ? { source: infoCommand(docker), said: `Storage Driver: ${docker.driver}` }
    : { source: `${docker.root}/image`, said: `layers of ${docker.driver}` };
}

function naiveByDriver(facts: Facts, docker: DockerFacts): Finding[] {
  const { driver = "", containerdStore } = docker;
  const cost = containerdStore ? undefined : naiveDrivers[driver];
  if (cost === undefined) return [];
  return [
    {
      id: "naive-diff-driver",
      severity: driver === "overlay" ? "note" : "warning",
      subject: subjectOf(docker),
      sentence: `Docker's driver ${driver} has no way of its own to tell what a build step changed, so Docker compares whole trees after every step.`,
      evidence: [driverSays(docker), ...zfsSays(facts, docker)],
      cost: `${capital(cost)}`,
      cures: curesOf(facts, docker),
    },
  ];
}

/** The version decides whether overlayfs can lie on ZFS: since OpenZFS 2.2. */
function zfsSays({ host, roots }: Facts, { driver, root }: DockerFacts): Evidence[] {
  const isZfs = driver === "zfs" || roots[root]?.fileSystem === "zfs";
  const { zfsVersion } = host;
  return isZfs && zfsVersion !== undefined ? [{ source: "/sys/module/zfs/version", said: zfsVersion }] : [];
}

function curesOf(facts: Facts, docker: DockerFacts): string[] {
  const { fileSystem, trial } = facts.roots[docker.root] ?? {};
  const change =
    'use overlay2: `docker save` what you need, set `"storage-driver": "overlay2"` in /etc/docker/daemon.json, restart Docker, `docker load`';
  const works = trial === undefined ? undefined : trial.error === undefined;
  if (docker.driver === "zfs" || fileSystem === "zfs") {
    const volume =
      "give Docker an ext4 file system on a ZFS volume: `zfs create -s -V 100G POOL/docker`, `mkfs.ext4`, mounted at the data root, and overlay2 on it";
    if (works === true) return [`${change} (overlayfs was tried on this ZFS and works)`, volume];
    if (works === false)
      return [`${volume} (overlayfs does not work on this ZFS: OpenZFS 2.2 is the first where it does)`];
    return [volume, `with OpenZFS 2.2 or later: ${change}`];
  }
  if (works === false) return [`${change}, on another file system: here overlayfs does not work (${trial?.error})`];
  return [works ? `${change} (overlayfs was tried here and works)` : change];
}

function vfsFallback(facts: Facts, docker: DockerFacts): Finding[] {
  if (docker.driver !== "vfs" || docker.asked?.driver === "vfs" || !docker.running) return [];
  const error = facts.roots[docker.root]?.trial?.error;
  return [
    {
      id: "vfs-fallback",
      severity: "warning",
      subject: subjectOf(docker),
      sentence:
        "Nobody chose the driver vfs: Docker fell back to it without a word, because no better driver worked when it first started.",
      evidence: [
        driverSays(docker),
        docker.asked === undefined
          ? { source: "daemon.json and dockerd's arguments", said: "no storage driver is named" }
          : { source: docker.asked.source, said: docker.asked.driver },
        ...(error === undefined ? [] : [{ source: `a trial mount of overlayfs in ${docker.root}`, said: error }]),
      ],
      cost: "Every layer and every container is a full copy of its image, in space and in time",
      cures: [
        error === undefined
          ? "name overlay2 in /etc/docker/daemon.json and restart Docker; its log says why it does not start, if so. Images must be loaded again"
          : "put the data root on a file system that overlayfs works on (ext4, xfs, btrfs)",
      ],
    },
  ];
}

function loopLvm(docker: DockerFacts): Finding[] {
  const loop =
    statusOf(docker, "Data loop file") ?? (docker.driver === "devicemapper" ? docker.data?.loopFile : undefined);
  if (loop === undefined) return [];
  return [
    {
      id: "loop-lvm",
      severity: "warning",
      subject: subjectOf(docker),
      sentence:
        "Docker keeps its layers on a block device that is really one big sparse file, a mode made for trying it out only.",
      evidence: [{ source: docker.running ? infoCommand(docker) : docker.root, said: `Data loop file: ${loop}` }],
      cost: "Every access goes through a loop device and a second file system; when the disk under the file is full, layers are damaged",
      cures: [
        "move to overlay2: `docker save`, change the driver in /etc/docker/daemon.json, restart Docker, `docker load`",
      ],
    },
  ];
}

/** Layers of drivers that the version that runs has no longer. */
function removed(docker: DockerFacts): Finding[] {
  const major = Number.parseInt(docker.version ?? "", 10);
  const gone = (docker.data?.drivers ?? []).filter(
    ({ driver }) => major >= (removedIn[driver] ?? Number.POSITIVE_INFINITY),
  );
  return gone.map(({ driver, layers }) => ({
    id: "driver-removed" as const,
    severity: "warning" as const,
    subject: subjectOf(docker),
    sentence: `There are ${layers} layers of the driver ${driver}, which this version of Docker no longer has: it cannot show or use the images in them.`,
    evidence: [
      { source: `${docker.root}/image/${driver}`, said: `${layers} layers` },
      { source: infoCommand(docker), said: `Server Version: ${docker.version}` },
    ],
    cost: "The space is taken, and the images seem lost",
    cures: [
      `run a Docker before ${removedIn[driver]}.0 on this data root once, \`docker save\` the images, and load them into this one`,
      "where the images can be pulled or built again: remove the directories of that driver while Docker is stopped",
    ],
  }));
}

function deprecated(docker: DockerFacts): Finding[] {
  const version = removedIn[docker.driver ?? ""];
  if (version === undefined || docker.containerdStore) return [];
  const isRemoved = Number.parseInt(docker.version ?? "", 10) >= version;
  if (isRemoved) return [];
  return [
    {
      id: "driver-deprecated",
      severity: "warning",
      subject: subjectOf(docker),
      sentence: `Docker ${version}.0 removed the driver ${docker.driver}: after an upgrade Docker does not start, or starts without these images.`,
      evidence: [driverSays(docker)],
      cost: "No upgrade of Docker without moving first",
      cures: [
        "move to overlay2 before the upgrade: `docker save`, change the driver in /etc/docker/daemon.json, restart Docker, `docker load`",
      ],
    },
  ];
}

function severalDrivers(docker: DockerFacts): Finding[] {
  const drivers = docker.data?.drivers ?? [];
  if (drivers.length < 2) return [];
  return [
    {
      id: "several-drivers",
      severity: "warning",
      subject: subjectOf(docker),
      sentence: `The data root holds layers of ${drivers.length} storage drivers; Docker shows the images of one, and those of the others just take space.`,
      evidence: drivers.map(({ driver, layers }) => ({
        source: `${docker.root}/image/${driver}`,
        said: `${layers} layers`,
      })),
      cost: "Space; and unless the driver is configured, Docker may refuse to start because it cannot tell which one is meant",
      cures: [
        "name the driver in /etc/docker/daemon.json",
        "start Docker with the other driver once, `docker save` what is still needed, then remove that driver's directory and its image/ directory while Docker is stopped",
      ],
    },
  ];
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
