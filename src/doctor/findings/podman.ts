/**
 * podman and buildah on overlay. They mount with the options of storage.conf, decide by a trial like Docker's, and keep the
 * answer in the run root until a reboot (containers/storage, drivers/overlay/overlay.go: useNaiveDiff).
 */
import type { Facts, PodmanFacts } from "../facts.ts";
import type { Evidence, Finding } from "./finding.ts";
import { parametersSay } from "./native-diff.ts";
import { effectOf } from "./overlay-effect.ts";

const cost =
  "`podman build`, `buildah commit` and `podman commit` read the names and attributes of all files of two whole images after every step";

export function podmanFindings(facts: Facts): Finding[] {
  return facts.podman.flatMap((podman) => {
    if (podman.driver !== undefined && podman.driver !== "overlay") return naiveByDriver(podman, podman.driver);
    const naive = whyNaive(facts, podman);
    return naive === undefined ? remembered(podman) : [naive];
  });
}

function naiveByDriver({ config, root }: PodmanFacts, driver: string): Finding[] {
  if (!["vfs", "btrfs", "zfs"].includes(driver)) return [];
  const isVfs = driver === "vfs";
  return [
    {
      id: "naive-diff-podman",
      severity: "warning",
      subject: `podman (${root})`,
      sentence: `podman's driver ${driver} has no way of its own to tell what a build step changed, so podman compares whole images${isVfs ? ", each of which is a full copy" : ""}.`,
      evidence: [{ source: config ?? root, said: `driver = "${driver}"` }],
      cost: isVfs ? `${cost}, and every layer takes the space of its whole image` : cost,
      cures: [
        `\`podman save\` what you need, set \`driver = "overlay"\` in ${config ?? "storage.conf"}, \`podman system reset\`, \`podman load\``,
      ],
    },
  ];
}

function whyNaive(facts: Facts, podman: PodmanFacts): Finding | undefined {
  const { config = "storage.conf", mountProgram, mountOptions = "" } = podman;
  const base = { id: "naive-diff-podman", severity: "warning", subject: `podman (${podman.root})`, cost } as const;
  if (mountProgram !== undefined)
    return {
      ...base,
      sentence: `podman mounts images with the program ${mountProgram}, and then always compares whole images instead of reading what a step changed.`,
      evidence: [{ source: config, said: `mount_program = "${mountProgram}"` }],
      cures: [
        `remove mount_program from ${config}, where the kernel can mount overlays itself (since Linux 5.11 also without root), then \`podman system reset\``,
      ],
    };
  // In a user namespace overlayfs leaves no redirects, and podman drops options that ask for them.
  if (podman.rootless) return undefined;
  const { parameters } = facts.overlay;
  if (!redirects(mountOptions, parameters)) return undefined;
  const byOption = /(^|,)(metacopy|redirect_dir)=on(,|$)/.exec(mountOptions)?.[2];
  const evidence: Evidence[] = [{ source: config, said: `mountopt = "${mountOptions}"` }];
  if (byOption === undefined) evidence.push(...parametersSay(facts.overlay));
  return {
    ...base,
    sentence:
      byOption === undefined
        ? "podman builds are slow because the kernel's overlayfs leaves redirects by default and podman's mount options do not say otherwise: podman then compares whole images."
        : `podman builds are slow because its mount options have ${byOption}=on, as many distributions ship it: podman then compares whole images instead of reading what a step changed.`,
    evidence,
    cures: [
      `in ${config}, under [storage.options.overlay]: \`mountopt = "nodev,redirect_dir=off,metacopy=off"\`, then remove the remembered answers (native-diff* and metacopy* in the run root's overlay/) or reboot`,
    ],
  };
}

/** The mount's own options before the module's parameters; an explicit redirect_dir=off also keeps metacopy off. */
function redirects(mountOptions: string, parameters: Readonly<Record<string, string>>): boolean {
  const options = new Map(mountOptions.split(",").map((option) => option.split("=") as [string, string]));
  const redirectDir = options.get("redirect_dir");
  if (redirectDir !== undefined) return redirectDir === "on";
  const metacopy = options.get("metacopy");
  const asked = metacopy === undefined ? parameters.metacopy : metacopy === "on" ? "Y" : "N";
  return effectOf({ redirect_dir: parameters.redirect_dir, metacopy: asked }).redirects;
}

function remembered({ root, mountOptions = "", remembered: names }: PodmanFacts): Finding[] {
  const name = `native-diff(${mountOptions})-false`;
  if (!names.includes(name)) return [];
  return [
    {
      id: "naive-diff-podman-remembered",
      severity: "warning",
      subject: `podman (${root})`,
      sentence:
        "podman builds are slow because podman remembers, until the next reboot, that it had to compare whole images; the reason has gone since.",
      evidence: [{ source: "overlay/ in podman's run root", said: name }],
      cost,
      cures: ["remove that file (and metacopy* beside it), or reboot"],
    },
  ];
}
