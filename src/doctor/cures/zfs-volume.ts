/**
 * Docker's data root on ZFS that overlayfs does not work on: an ext4 on a sparse ZFS volume, or, where there are no volumes
 * (zfs-fuse, containers), in a sparse file on a dataset of its own; mounted at the data root, and overlay2 on it. The old
 * data stays: as the same dataset under a new name, or as a directory beside the data root.
 */

import { basename, dirname } from "node:path";
import type { RootFacts } from "../facts.ts";
import { carrying, type DriverChange, targetDriver, verification } from "./carry-images.ts";
import type { CureHost } from "./cure-host.ts";
import { copiedBytes, dataLeftBehind } from "./data-left.ts";
import { moveSeconds } from "./images.ts";
import { lastingMount } from "./lasting-mount.ts";
import type { Plan } from "./plan.ts";
import { cannot, downtimeOf, type PlanRequest, whileStopped } from "./request.ts";
import type { CommandStep, MountStep, Step } from "./steps/step.ts";

/** All of them, as a failure to list one does not say whether it is there. */
const listDatasets = ["zfs", "list", "-H", "-o", "name"];
const defaultBytes = 100 * 2 ** 30;
const leastBytes = 256 * 2 ** 20;

/** The dataset that holds a data root. */
export interface Dataset {
  readonly name: string;
  readonly mountPoint: string;
  /** Its mount point is set on itself, not inherited with its name. */
  readonly isLocal: boolean;
}

/** Undefined where the data root is not on ZFS. Errors: failed_precondition where it is, and `zfs` does not answer. */
export async function datasetOf(host: CureHost, root: RootFacts | undefined): Promise<Dataset | undefined> {
  const { mountPoint, device, fileSystem } = root ?? {};
  if (mountPoint === undefined || device === undefined) return undefined;
  try {
    const list = await host.run(["zfs", "list", "-H", "-t", "filesystem", "-o", "name,mountpoint"]);
    const known = list.split("\n").map((line) => line.split("\t"));
    const name = known.find(([one, at]) => one === device || at === mountPoint)?.[0];
    if (name === undefined) return undefined;
    const source = await host.run(["zfs", "get", "-H", "-o", "source", "mountpoint", name]);
    return { name, mountPoint, isLocal: source.trim() === "local" };
  } catch (error) {
    // zfs-fuse's file systems call themselves `fuse`, as others do: there it may be that no ZFS is here.
    if (fileSystem !== "zfs") return undefined;
    const why = error instanceof Error ? error.message : String(error);
    throw cannot("ZFS_SILENT", `${mountPoint} is on ZFS, and it could not be asked about it: ${why}`);
  }
}

export async function planZfsVolume(request: PlanRequest, change: DriverChange, dataset: Dataset): Promise<Plan> {
  const { finding, host, choices } = request;
  const { docker, engine, images } = change;
  const { root, driver = "" } = docker;
  const size = choices.volumeBytes ?? defaultBytes;
  const copied = await copiedBytes(host.view.at(root), driver);
  const needed = images.bytes * 2 + copied;
  if (size < Math.max(leastBytes, needed * 1.1))
    throw cannot(
      "VOLUME_TOO_SMALL",
      `a volume of ${size} bytes does not hold what is to be copied`,
      "give a larger --size",
    );
  const isKernel = host.view.exists("/dev/zfs");
  const hasVolumes = isKernel && choices.imageFile !== true;
  const volume = hasVolumes ? zvol(dataset, size) : imageFile(dataset, root, size);
  const staging = `${root}.lamella-new`;
  const old = aside(root, dataset, { isKernel });
  const lasting = lastingMount(request, { ...volume.mount, target: root }, hasVolumes);
  const archive = "lamella-doctor-images.tar";
  const carry = carrying(images, engine, { save: `${staging}/${archive}`, load: `${root}/${archive}` });
  const stagingMount: Omit<MountStep, "kind"> = { ...volume.mount, target: staging };
  const engines = engine === undefined ? [] : [engine];
  const seconds = moveSeconds(images) + Math.ceil(copied / images.rate);
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: `Gives Docker an ext4 file system ${hasVolumes ? "on a ZFS volume" : "in a file on ZFS"}, mounted at ${root}, and has it use overlay2 there, with all images and volumes.`,
    steps: [
      ...volume.steps,
      { kind: "make-directory", path: staging, mode: "0700", temporary: true },
      { kind: "mount", ...stagingMount },
      ...carry.before,
      ...whileStopped(engines, [
        ...(images.readable
          ? [{ kind: "move-images", root, driver, toRoot: staging, toDriver: targetDriver, removeOld: false } as const]
          : []),
        { kind: "copy-data", root, from: root, to: staging, without: dataLeftBehind(driver) },
        { kind: "unmount", ...stagingMount },
        ...old.steps,
        { kind: "make-directory", path: root, mode: "0710", temporary: false },
        change.settings,
        ...lasting.steps,
        { kind: "mount", ...volume.mount, target: root },
      ]),
      ...carry.after,
      ...verification(engine, images),
    ],
    notes: [
      ...change.notes,
      `the old data stays ${old.where} until --finish`,
      `the ${hasVolumes ? "volume" : "file"} takes space as it fills; \`fstrim ${root}\` gives back what was freed`,
      ...(isKernel ? [] : [daemonNote(root)]),
      ...(driver === "zfs" ? [`the datasets of Docker's layers below ${dataset.name} go with the old data`] : []),
    ],
    byHand: lasting.byHand,
    ...downtimeOf(engines, seconds),
    copies: { bytes: images.bytes + copied, seconds },
    before: finding.evidence,
  };
}

interface Volume {
  readonly steps: readonly Step[];
  readonly mount: Pick<MountStep, "source" | "type" | "options">;
}

function zvol({ name }: Dataset, size: number): Volume {
  const volume = `${siblingOf(name)}-ext4`;
  const device = `/dev/zvol/${volume}`;
  return {
    steps: [
      {
        ...create(["zfs", "create", "-s", "-V", String(size), volume], volume),
        makes: device,
      },
      { kind: "command", argv: ["mkfs.ext4", "-q", "-m", "0", device], holdsData: false },
    ],
    mount: { source: device, type: "ext4", options: "defaults" },
  };
}

function imageFile({ name }: Dataset, root: string, size: number): Volume {
  const dataset = `${siblingOf(name)}-ext4`;
  const directory = `${root}.volume`;
  const file = `${directory}/ext4.img`;
  return {
    steps: [
      { ...create(["zfs", "create", "-o", `mountpoint=${directory}`, dataset], dataset), makes: directory },
      { kind: "command", argv: ["truncate", "-s", String(size), file], makes: file, holdsData: false },
      { kind: "command", argv: ["mkfs.ext4", "-q", "-F", "-m", "0", file], holdsData: false },
    ],
    mount: { source: file, type: "ext4", options: "loop" },
  };
}

function create(argv: readonly string[], dataset: string): CommandStep {
  return {
    kind: "command",
    argv,
    undo: ["zfs", "destroy", dataset],
    undoIf: { argv: listDatasets, prints: dataset },
    holdsData: true,
  };
}

/** A dataset's own name, or one below a pool's. */
function siblingOf(name: string): string {
  return name.includes("/") ? name : `${name}/docker`;
}

/** The old data out of the way. */
function aside(
  root: string,
  { name, mountPoint, isLocal }: Dataset,
  { isKernel }: { readonly isKernel: boolean },
): { readonly steps: Step[]; readonly where: string } {
  const before = `${root}.lamella-before`;
  if (root !== mountPoint)
    return {
      steps: [{ kind: "set-aside", root, moves: [{ from: root, to: before }], remove: true }],
      where: `in ${before}`,
    };
  if (!name.includes("/"))
    throw cannot(
      "POOL_IS_ROOT",
      `the pool ${name} itself is mounted at ${root}, and cannot be renamed`,
      "give it another mount point, and Docker a dataset of its own, first",
    );
  const renamed = `${name}-lamella-before`;
  const at = isLocal ? before : `${dirname(root)}/${basename(renamed)}`;
  const step = (argv: readonly string[], undo: readonly string[], of: string): CommandStep => ({
    kind: "command",
    argv,
    undo,
    undoIf: { argv: listDatasets, prints: of },
    holdsData: false,
  });
  const mountPointStep = step(
    ["zfs", "set", `mountpoint=${before}`, renamed],
    ["zfs", "set", `mountpoint=${root}`, renamed],
    renamed,
  );
  const steps: Step[] = [
    // By itself: zfs-fuse needs a while after it, and renaming would mount it again at once.
    step(["zfs", "unmount", name], ["zfs", "mount", name], name),
    // ZFS would make it, and leave it after an undo. Before what `finish` destroys, as that goes the other way round.
    { kind: "make-directory", path: at, mode: "0700", temporary: true },
    {
      ...step(["zfs", "rename", name, renamed], ["zfs", "rename", renamed, name], renamed),
      ...ending(renamed, at, { isKernel }),
    },
    // A mount point of its own goes with it; one that is inherited has its new name.
    ...(isLocal ? [mountPointStep] : []),
    step(["zfs", "mount", renamed], ["zfs", "unmount", renamed], renamed),
  ];
  return { steps, where: `as the dataset ${renamed}` };
}

/** What ends it. zfs-fuse unmounts nothing while Docker's file system lies on it, see {@link daemonNote}. */
function ending(
  renamed: string,
  at: string,
  { isKernel }: { readonly isKernel: boolean },
): Pick<CommandStep, "finish" | "afterFinish"> {
  if (isKernel) return { finish: ["zfs", "destroy", "-r", renamed] };
  return {
    finish: ["find", at, "-xdev", "-mindepth", "1", "-delete"],
    afterFinish: `the dataset ${renamed} is empty: \`zfs destroy -r ${renamed}\` when Docker is stopped and its data root unmounted`,
  };
}

/**
 * The daemon syncs all file systems (sync(2)) when a dataset is unmounted, in the thread that reads requests; a file system in
 * a file on it then waits for that very thread.
 */
function daemonNote(root: string): string {
  return `with zfs-fuse no dataset may be unmounted, renamed or destroyed while ${root} is mounted: the daemon would wait for that file system, and that for the daemon. Stop Docker and unmount it before`;
}
