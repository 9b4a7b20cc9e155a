/** podman and buildah: mount options with which they diff natively, and the answers they remember until a reboot. */
import type { PodmanFacts } from "../facts.ts";
import { findMarkedLayers } from "./marked-layers.ts";
import type { Plan } from "./plan.ts";
import { cannot, fileStep, type PlanRequest } from "./request.ts";
import type { Step } from "./steps/step.ts";
import { mountOptionsOff, withMountOptions } from "./storage-conf.ts";

const systemFile = "/etc/containers/storage.conf";

export async function planPodmanOptions(request: PlanRequest): Promise<Plan> {
  const { facts, finding } = request;
  const podman = facts.podman.find(({ root }) => finding.subject === `podman (${root})`);
  if (podman === undefined) throw cannot("NO_SUBJECT", `${finding.subject} is not there`);
  const isRemembered = finding.id === "naive-diff-podman-remembered";
  if (!isRemembered) refuseOthers(podman, finding.cures[0]);
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: isRemembered
      ? "Makes podman forget that it had to compare whole images; it looks again at its next start."
      : "Has podman and buildah mount with redirect_dir and metacopy off, so that they diff natively.",
    steps: [...(isRemembered ? [] : [configuration(request, podman)]), ...forget(request, podman)],
    notes: notesOf(request, podman, isRemembered),
    byHand: [],
    before: finding.evidence,
  };
}

function refuseOthers({ driver, mountProgram, config }: PodmanFacts, hint: string | undefined): void {
  if (mountProgram !== undefined)
    throw cannot("MOUNT_PROGRAM", `${config} has podman mount with ${mountProgram}, which decides how it diffs`, hint);
  if (driver !== undefined && driver !== "overlay")
    throw cannot(
      "OTHER_DRIVER",
      `podman uses the driver ${driver}; changing it needs its images saved and loaded`,
      hint,
    );
}

/** The administrator's file, which comes before the distribution's in /usr/share. */
function configuration({ host }: PlanRequest, { config, mountOptions, root, runRoot }: PodmanFacts): Step {
  const path = config === undefined || config.startsWith("/usr/") ? systemFile : config;
  // The first file found counts alone: what the distribution's says has to stand in it, too.
  const basis = config === undefined ? undefined : host.view.text(config);
  const made = `[storage]\ndriver = "overlay"\ngraphroot = "${root}"\nrunroot = "${runRoot}"\n`;
  return fileStep(host, path, withMountOptions(basis ?? made, mountOptionsOff(mountOptions)));
}

function forget({ host }: PlanRequest, { remembered, runRoot }: PodmanFacts): Step[] {
  return remembered.map((name) => {
    const path = `${runRoot}/overlay/${name}`;
    return { kind: "write-file", path, before: host.view.text(path) ?? "", madeDirectories: [] };
  });
}

function notesOf({ facts, host }: PlanRequest, { root, rootless }: PodmanFacts, isRemembered: boolean): string[] {
  if (isRemembered) return [];
  const notes = ["containers that run keep the options they were mounted with until they are started again"];
  if (facts.host.uid !== 0 || rootless) return notes;
  const marked = findMarkedLayers(`${host.view.at(root)}/overlay`, "diff");
  const metacopy = marked.find(({ metacopies }) => metacopies > 0);
  if (metacopy !== undefined)
    throw cannot(
      "METADATA_COPIES",
      `podman's layer ${metacopy.id.slice(0, 12)} holds ${metacopy.metacopies} files that are metadata alone, and cannot be read with metacopy off`,
      "remove the containers and images that it belongs to (`podman ps -a`, `podman images -a`), and run this again",
    );
  if (marked.length > 0)
    notes.push(
      `${marked.length} layers hold redirects: the kernel follows those unless redirect_always_follow is off, but a commit of containers on them may lack renamed directories; make them anew`,
    );
  return notes;
}
