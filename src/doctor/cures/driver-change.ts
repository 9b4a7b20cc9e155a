/**
 * Another storage driver with the images kept. Where overlayfs works on the data root's file system, the driver changes in
 * place; on a ZFS where it does not, ./zfs-volume.ts gives Docker a file system where it does.
 */
import { daemonProcesses } from "../collect/docker-processes.ts";
import type { DockerFacts } from "../facts.ts";
import { carrying, type DriverChange, targetDriver as target, verification } from "./carry-images.ts";
import { withDriver } from "./daemon-json.ts";
import { imagesOf, moveSeconds } from "./images.ts";
import type { Plan } from "./plan.ts";
import {
  allContainers,
  cannot,
  dockerOf,
  downtimeOf,
  enginesOf,
  fileStep,
  type PlanRequest,
  whileStopped,
} from "./request.ts";
import type { Step } from "./steps/step.ts";
import { datasetOf, planZfsVolume } from "./zfs-volume.ts";

export async function planDriverChange(request: PlanRequest): Promise<Plan> {
  const { facts, finding, host } = request;
  const docker = dockerOf(request);
  const { root, driver = "" } = docker;
  if (driver === target) throw cannot("SAME_DRIVER", `Docker (${root}) uses ${target} already`);
  if (docker.containerdStore) throw cannot("CONTAINERD_STORE", `the images of Docker (${root}) are containerd's`);
  const [engine] = await enginesOf(host, [docker]);
  const images = await imagesOf(request, docker);
  const change: DriverChange = {
    docker,
    engine,
    images,
    settings: settingsStep(request, docker),
    notes: await notesOf(request, docker),
  };
  const trial = facts.roots[root]?.trial;
  if (trial !== undefined && trial.error === undefined) return inPlace(request, change);
  const dataset = await datasetOf(host, facts.roots[root]);
  if (dataset !== undefined) return planZfsVolume(request, change, dataset);
  const why = trial?.error ?? "whether it works was not tried, which needs root";
  throw cannot(
    "NO_OVERLAYFS",
    `overlayfs does not work in ${root}: ${why}`,
    `give Docker a data root on ext4, xfs or btrfs; ${finding.cures[0] ?? ""}`,
  );
}

function inPlace({ finding, host }: PlanRequest, { docker, engine, images, settings, notes }: DriverChange): Plan {
  const { root, driver = "" } = docker;
  if (host.view.exists(`${root}/image/${target}`) || (host.view.names(`${root}/${target}`) ?? []).length > 0)
    throw cannot(
      "DRIVER_HAS_DATA",
      `there is data of ${target} in ${root} already`,
      `look what it holds (start Docker with ${target} once), and remove ${root}/${target} and ${root}/image/${target}`,
    );
  if (images.room < images.bytes * 2)
    throw cannot("NO_SPACE", `${root} has too little room to hold all images once more`, "remove images, or make room");
  const archive = `${root}/lamella-doctor-images.tar`;
  const carry = carrying(images, engine, { save: archive, load: archive });
  const moved: Step[] = images.readable
    ? [
        {
          kind: "move-images",
          root,
          driver,
          toRoot: root,
          toDriver: target,
          ...(engine !== undefined && { socket: engine.socket }),
          removeOld: true,
        },
      ]
    : [{ kind: "new-driver", root, driver: target }];
  const buildkit = `${root}/buildkit`;
  const cache: Step[] = host.view.exists(buildkit)
    ? [{ kind: "set-aside", root, moves: [{ from: buildkit, to: `${buildkit}.lamella-before` }], remove: true }]
    : [];
  const engines = engine === undefined ? [] : [engine];
  const seconds = moveSeconds(images);
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: `Has Docker use ${target} instead of ${driver} in ${root}, with all images.`,
    steps: [
      ...carry.before,
      ...whileStopped(engines, [...moved, ...cache, settings]),
      ...carry.after,
      ...verification(engine, images),
    ],
    notes: [
      ...notes,
      images.readable
        ? `the directories of ${driver} stay until --finish`
        : `the data of ${driver} stays in ${root}/${driver} also after --finish: remove it when nothing needs it any more`,
    ],
    byHand: [],
    ...downtimeOf(engines, images.readable ? seconds : 0),
    copies: { bytes: images.bytes, seconds },
    before: finding.evidence,
  };
}

/** Errors: failed_precondition where dockerd's arguments name the driver: they are not doctor's to change. */
function settingsStep({ host }: PlanRequest, { root, asked }: DockerFacts): Step {
  if (asked?.source.startsWith("arguments of"))
    throw cannot(
      "DRIVER_IN_ARGUMENTS",
      `dockerd is started with \`--storage-driver ${asked.driver}\`, and that is not doctor's to change`,
      "take it out of what starts dockerd (a unit file, a drop-in) and put it into daemon.json, start dockerd, and run this again",
    );
  const daemon = daemonProcesses(host.view).find((one) => one.root === root);
  const path = asked?.source ?? daemon?.configFile ?? "/etc/docker/daemon.json";
  return fileStep(host, path, withDriver(host.view.text(path), target, path));
}

async function notesOf({ host }: PlanRequest, docker: DockerFacts): Promise<string[]> {
  const names = await allContainers(host, docker);
  const { running, root, driver } = docker;
  const count = running ? names.length : (host.view.names(`${root}/image/${driver}/layerdb/mounts`)?.length ?? 0);
  if (count === 0) return [];
  const shown = names.length === 0 ? "" : ` (${names.slice(0, 5).join(", ")}${names.length > 5 ? " ..." : ""})`;
  return [
    `${count} containers${shown} belong to ${driver} and are not to be seen afterwards: \`docker commit\` what they wrote and is needed, and make them anew. --undo brings them back`,
  ];
}
