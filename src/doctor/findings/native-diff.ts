/**
 * Docker on overlay2: does it compute diffs natively (read what a step wrote) or naively (compare two whole trees)? It tries
 * overlayfs once when it starts (moby, daemon/graphdriver/overlay2/check.go) and keeps to the answer until it ends.
 */
import type { DockerFacts, Facts, OverlayFacts } from "../facts.ts";
import type { Evidence, Finding, FindingId } from "./finding.ts";
import { effectAfterReboot, effectNow, effectOf, type OverlayEffect, switchedOn } from "./overlay-effect.ts";
import { infoCommand, statusOf, subjectOf } from "./subject.ts";

const naiveCost =
  "After every build step, and for every commit, Docker reads the names and attributes of all files of two whole images: seconds to minutes a step, however little it changed. It also misses a file whose content changed while size and time stayed";

export function nativeDiffFindings(facts: Facts): Finding[] {
  return facts.docker.filter(isOverlay2).flatMap((docker) => findingsOf(facts, docker));
}

function isOverlay2({ driver, containerdStore }: DockerFacts): boolean {
  return driver === "overlay2" && !containerdStore;
}

function findingsOf(facts: Facts, docker: DockerFacts): Finding[] {
  const isInUserNamespace = isOfUserNamespace(docker);
  const effect = isInUserNamespace ? noEffect : effectNow(facts, docker.root);
  const reported = statusOf(docker, "Native Overlay Diff");
  const isNaive = docker.running && reported !== undefined ? reported === "false" : (effect?.redirects ?? false);
  const isGone = effect?.redirects === false && !isInUserNamespace;
  if (isNaive) return [isGone ? sinceGone(facts, docker) : naive(facts, docker)];
  if (docker.running && reported === "true" && effect?.redirects) return [sinceSwitchedOn(facts, docker)];
  return [...(isInUserNamespace ? [] : slowAfterReboot(facts, docker)), diffCommandIsNaive(docker)];
}

const noEffect: OverlayEffect = { redirects: false, metacopies: false };

/** A rootless daemon mounts with userxattr, and then overlayfs leaves no redirects whatever its parameters say. */
function isOfUserNamespace(docker: DockerFacts): boolean {
  return statusOf(docker, "userxattr") === "true";
}

function naive(facts: Facts, docker: DockerFacts): Finding {
  const { overlay } = facts;
  const on = isOfUserNamespace(docker) ? [] : switchedOn(overlay.parameters);
  const id = idOf(on);
  return {
    id,
    severity: "warning",
    subject: subjectOf(docker),
    sentence: sentenceOf(on),
    evidence: [...reportedBy(docker), ...parametersSay(overlay), ...trialSays(facts, docker)],
    cost: naiveCost,
    cures:
      id === "naive-diff-other"
        ? [
            "look for `Not using native diff` in Docker's log, which says why; in a user namespace Linux 5.11 or later is needed",
          ]
        : overlayCures(overlay),
  };
}

function idOf(on: readonly string[]): FindingId {
  if (on.length === 2) return "naive-diff-redirect-dir-and-metacopy";
  if (on.length === 0) return "naive-diff-other";
  return on[0] === "metacopy" ? "naive-diff-metacopy" : "naive-diff-redirect-dir";
}

function sentenceOf(on: readonly string[]): string {
  const because = "Builds are slow because Docker compares whole images instead of reading what a step changed";
  if (on.length === 0) return `${because}; why it does so on this host is in its log.`;
  if (on.length === 2)
    return `${because}: the kernel's overlayfs has redirect_dir and metacopy on. Both must be turned off: metacopy alone turns redirect_dir on again.`;
  return on[0] === "metacopy"
    ? `${because}: the kernel's overlayfs has metacopy on, and that turns redirect_dir on although its own switch is off.`
    : `${because}: the kernel's overlayfs has redirect_dir on, which Docker's fast way does not understand.`;
}

/** The daemon found redirects when it started; there are none now. */
function sinceGone(facts: Facts, docker: DockerFacts): Finding {
  return {
    id: "overlay-changed-since-start",
    severity: "warning",
    subject: subjectOf(docker),
    sentence:
      "Builds are slow because Docker decided to compare whole images when it started; the reason has gone since, and Docker looks only once.",
    evidence: [...reportedBy(docker), ...parametersSay(facts.overlay), ...trialSays(facts, docker)],
    cost: naiveCost,
    cures: ["restart Docker: `systemctl restart docker`. If it stays so, `Not using native diff` in its log says why"],
  };
}

/** The daemon trusts the fast way, and the kernel now writes what it does not understand. */
function sinceSwitchedOn(facts: Facts, docker: DockerFacts): Finding {
  return {
    id: "overlay-changed-since-start",
    severity: "error",
    subject: subjectOf(docker),
    sentence:
      "Images built now may lack files: redirect_dir was turned on while Docker runs, and Docker goes on as if it were off.",
    evidence: [...reportedBy(docker), ...parametersSay(facts.overlay), ...trialSays(facts, docker)],
    cost: "A directory that a build step renames is missing from the image, or is there without its files. Restarted as it is, Docker is right again and slow",
    cures: overlayCures(facts.overlay),
  };
}

function slowAfterReboot({ overlay }: Facts, docker: DockerFacts): Finding[] {
  const future = effectAfterReboot(overlay);
  if (!future?.redirects || effectOf(overlay.parameters).redirects) return [];
  const decided = ["redirect_dir", "metacopy"].flatMap((name): Evidence[] => {
    const value = overlay.afterReboot[name];
    return value?.value === "Y" ? [{ source: value.source, said: `${name}=Y after a reboot` }] : [];
  });
  return [
    {
      id: "overlay-changes-at-reboot",
      severity: "warning",
      subject: subjectOf(docker),
      sentence:
        "Builds are fast now and will be slow after the next reboot: what makes them fast was set for this run of the system only.",
      evidence: [...parametersSay(overlay), ...decided],
      cost: naiveCost,
      cures: [lastingCure(overlay)],
    },
  ];
}

function diffCommandIsNaive(docker: DockerFacts): Finding {
  return {
    id: "docker-diff-naive",
    severity: "note",
    subject: subjectOf(docker),
    sentence:
      "Builds and commits are fast here; `docker diff` is not: with overlay2 it always compares two whole trees.",
    evidence: docker.running ? reportedBy(docker) : [{ source: docker.root, said: "the storage driver is overlay2" }],
    cost: "`docker diff` reads the names and attributes of all files of the container and of its image",
    cures: [
      "none in Docker; what a container wrote also lies in the directory `docker inspect -f '{{.GraphDriver.Data.UpperDir}}'` names",
    ],
  };
}

function reportedBy(docker: DockerFacts): Evidence[] {
  const value = statusOf(docker, "Native Overlay Diff");
  return value === undefined ? [] : [{ source: infoCommand(docker), said: `Native Overlay Diff: ${value}` }];
}

/** The two parameters that matter, as they are now. */
export function parametersSay({ parameters }: OverlayFacts): Evidence[] {
  return ["redirect_dir", "metacopy"].flatMap((name) => {
    const said = parameters[name];
    return said === undefined ? [] : [{ source: `/sys/module/overlay/parameters/${name}`, said }];
  });
}

function trialSays({ roots }: Facts, { root }: DockerFacts): Evidence[] {
  const trial = roots[root]?.trial;
  if (trial === undefined) return [];
  if (trial.error !== undefined) return [{ source: `a trial mount in ${root}`, said: trial.error }];
  const said = `a renamed directory left ${trial.redirects ? "a" : "no"} redirect, a changed mode copied ${trial.metacopies ? "metadata alone" : "the data too"}`;
  return [{ source: `a trial mount in ${root}`, said }];
}

const caution =
  "Make containers that exist now anew afterwards: what they wrote while it was on may hold redirects, which the fast way does not understand";

/** Cures for what the module's parameters cause. */
export function overlayCures(overlay: OverlayFacts): string[] {
  const future: OverlayEffect | undefined = effectAfterReboot(overlay);
  const now = `for this run of the system: stop Docker, write N to /sys/module/overlay/parameters/metacopy and redirect_dir (both), start Docker. ${caution}`;
  if (future?.redirects === false) return ["reboot: both are off then, as things are configured", now];
  return [`for good: ${lastingCure(overlay)}. ${caution}`, now];
}

function lastingCure({ presence }: OverlayFacts): string {
  return presence === "builtin"
    ? "overlayfs is built into this kernel, so modprobe.d has no effect: add `overlay.metacopy=off overlay.redirect_dir=off` to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then `update-grub` or `grub2-mkconfig`), and reboot"
    : "write `options overlay metacopy=off redirect_dir=off` to /etc/modprobe.d/overlay-native-diff.conf (redirect_dir=off alone does not do), and reboot, or stop Docker and run `modprobe -r overlay && modprobe overlay`";
}
