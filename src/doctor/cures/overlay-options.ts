/**
 * Turns redirect_dir and metacopy off, both: in modprobe.d for the time after a reboot, now by loading the module anew or by
 * its parameters, and has Docker look again.
 *
 * What layers hold from the time when the options were on would be read wrongly by Docker's native diff, and metadata-only
 * copies not at all: such layers are written anew without (./steps/rewrite-layers.ts), or, if the user wants them kept, the
 * kernel is told to follow redirects still (redirect_always_follow). Layers of podman and containerd are looked at, too, as
 * the parameters are the whole host's.
 */
import { basename } from "node:path";
import { afterReboot } from "../collect/overlay.ts";
import type { DockerFacts, Facts, OptionSource, OverlayFacts } from "../facts.ts";
import { effectAfterReboot, effectOf } from "../findings/overlay-effect.ts";
import { overlayOptionsOfModprobe } from "../module-options.ts";
import type { CureHost } from "./cure-host.ts";
import { findMarkedLayers, type MarkedLayer } from "./marked-layers.ts";
import type { Plan } from "./plan.ts";
import { cannot, downtimeOf, enginesOf, fileStep, type PlanRequest, whileStopped } from "./request.ts";
import type { Step } from "./steps/step.ts";

const fileNames = ["overlay-native-diff.conf", "zz-overlay-native-diff.conf"] as const;
const comment =
  "# Written by `lamella doctor`: Docker diffs natively only with both off, as metacopy turns redirect_dir on again.\n";

export async function planOverlayOptions(request: PlanRequest): Promise<Plan> {
  const { facts, finding, host } = request;
  const isOnlyForReboot = finding.id === "overlay-changes-at-reboot";
  const dockers = isOnlyForReboot
    ? []
    : facts.docker.filter((one) => one.driver === "overlay2" && !one.containerdStore);
  const engines = await enginesOf(host, dockers);
  const layers = isOnlyForReboot ? noLayers : lookAtLayers(request, dockers);
  const goal: Record<string, string> = {
    metacopy: "N",
    redirect_dir: "N",
    ...(layers.follow && { redirect_always_follow: "Y" }),
  };
  const known = knownOf(goal, facts.overlay);
  const lasting = lastingSteps(host, facts.overlay, known);
  const work: Step[] = [
    ...layers.rewritten.map((root) => ({ kind: "rewrite-layers", root }) as const),
    ...lasting.steps,
    ...(isOnlyForReboot ? [] : parameterSteps(facts.overlay, known)),
  ];
  const marked = layers.marked.length;
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: isOnlyForReboot
      ? "Keeps redirect_dir and metacopy of overlayfs off after the next reboot, too."
      : "Turns redirect_dir and metacopy of overlayfs off, both, and starts Docker anew, so that it diffs natively.",
    steps: [
      ...whileStopped(engines, work),
      ...engines.map(
        ({ socket }) =>
          ({
            kind: "verify-engine",
            socket,
            driver: "overlay2",
            status: [["Native Overlay Diff", "true"]],
            images: [],
          }) as const,
      ),
    ],
    notes: layers.notes,
    byHand: lasting.byHand,
    ...downtimeOf(engines, marked * 2),
    before: finding.evidence,
  };
}

/** Parameters that this kernel has, as far as can be told. */
function knownOf(
  goal: Readonly<Record<string, string>>,
  { parameters, compiled }: OverlayFacts,
): Record<string, string> {
  const names = new Set([...Object.keys(parameters), ...Object.keys(compiled?.values ?? {})]);
  return Object.fromEntries(Object.entries(goal).filter(([name]) => names.size === 0 || names.has(name)));
}

function parameterSteps(
  { presence, parameters, ...rest }: OverlayFacts,
  goal: Readonly<Record<string, string>>,
): Step[] {
  const differing = Object.keys(goal).filter(
    (name) => parameters[name] !== undefined && parameters[name] !== goal[name],
  );
  if (differing.length === 0) return [];
  const pick = (values: Readonly<Record<string, string | undefined>>): Record<string, string> =>
    Object.fromEntries(differing.map((name) => [name, values[name] ?? ""]));
  // Given by the kernel's command line it would come back on.
  const isStubborn = rest.commandLine.some(({ name, value }) => goal[name] !== undefined && value !== goal[name]);
  return [
    {
      kind: "set-parameters",
      before: pick(parameters),
      after: pick(goal),
      reload: presence === "loaded module" && !isStubborn,
    },
  ];
}

interface Lasting {
  readonly steps: readonly Step[];
  readonly byHand: readonly string[];
}

/** What makes it last. Nothing, where things are configured so already. */
function lastingSteps(host: CureHost, overlay: OverlayFacts, goal: Readonly<Record<string, string>>): Lasting {
  if (effectAfterReboot(overlay)?.redirects === false && goal.redirect_always_follow === undefined)
    return { steps: [], byHand: [] };
  if (overlay.presence === "builtin") return { steps: [], byHand: [commandLineAdvice(goal)] };
  const onCommandLine = overlay.commandLine.filter(
    ({ name, value }) => goal[name] !== undefined && value !== goal[name],
  );
  const byHand = onCommandLine.map(
    ({ name }) =>
      `take \`overlay.${name}=...\` off the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then \`update-grub\` or \`grub2-mkconfig\`): it has the last word after a reboot`,
  );
  const options = Object.entries(goal).map(([name, value]) => `${name}=${value === "Y" ? "on" : "off"}`);
  const line = `options overlay ${options.join(" ")}\n`;
  const name = fileNames.find((one) => !redirectsWith(overlay, one, line)) ?? fileNames[1];
  const path = `/etc/modprobe.d/${name}`;
  const before = host.view.text(path) ?? "";
  const after = `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}${comment}${line}`;
  return { steps: [fileStep(host, path, after)], byHand };
}

/** Would redirects still be left after a reboot? What the command line says is told apart. */
function redirectsWith(overlay: OverlayFacts, name: string, line: string): boolean {
  const nameOf = ({ source }: OptionSource): string => basename(source).replace(/:\d+$/, "");
  const ours = overlayOptionsOfModprobe(line, `/etc/modprobe.d/${name}`);
  const modprobe = [...overlay.modprobe, ...ours].sort((a, b) =>
    nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0,
  );
  const { presence, compiled } = overlay;
  const future = afterReboot({
    presence: presence === "unknown" ? "module" : presence,
    compiled,
    modprobe,
    commandLine: [],
  });
  return effectOf({ redirect_dir: future.redirect_dir?.value, metacopy: future.metacopy?.value }).redirects;
}

function commandLineAdvice(goal: Readonly<Record<string, string>>): string {
  const words = Object.entries(goal).map(([name, value]) => `overlay.${name}=${value === "Y" ? "on" : "off"}`);
  return `overlayfs is built into this kernel, so it lasts only until a reboot: add \`${words.join(" ")}\` to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then \`update-grub\` or \`grub2-mkconfig\`)`;
}

interface Layers {
  /** Docker's data roots whose layers are looked through again and written anew. */
  readonly rewritten: readonly string[];
  readonly marked: readonly MarkedLayer[];
  /** The kernel must go on following redirects. */
  readonly follow: boolean;
  readonly notes: readonly string[];
}

const noLayers: Layers = { rewritten: [], marked: [], follow: false, notes: [] };

function lookAtLayers({ facts, host, choices }: PlanRequest, dockers: readonly DockerFacts[]): Layers {
  if (facts.host.uid !== 0)
    return { ...noLayers, notes: ["only root may look whether layers hold redirects; those would be written anew"] };
  const marked = dockers.flatMap(({ root }) => findMarkedLayers(`${host.view.at(root)}/overlay2`, "diff"));
  const others = othersLayers(facts, host);
  const metacopies =
    others.find((one) => one.metacopies > 0) ??
    (choices.keepLayers ? marked.find((one) => one.metacopies > 0) : undefined);
  if (metacopies !== undefined)
    throw cannot(
      "METADATA_COPIES",
      `the layer ${metacopies.id} holds ${metacopies.metacopies} files that are metadata alone, and cannot be read with metacopy off`,
      choices.keepLayers
        ? "leave out --keep-layers: layers are written anew then"
        : "remove the containers (of podman, or containerd) that it belongs to, and run this again",
    );
  const notes: string[] = [];
  if (marked.length > 0)
    notes.push(
      choices.keepLayers
        ? `${marked.length} layers with redirects stay as they are, and the kernel goes on following them (redirect_always_follow); \`docker commit\` of containers on them may lack renamed directories`
        : `${marked.length} layers hold redirects or files that are metadata alone (${describe(marked)}): they are written anew without; what they were stays beside them until --finish. With --keep-layers they stay as they are`,
    );
  if (others.length > 0)
    notes.push(
      `${others.length} layers of podman or containerd hold redirects: the kernel goes on following those (redirect_always_follow)`,
    );
  return {
    rewritten: choices.keepLayers ? [] : dockers.filter(({ data }) => data !== undefined).map(({ root }) => root),
    marked,
    follow: others.length > 0 || (choices.keepLayers === true && marked.length > 0),
    notes,
  };
}

/** Mounts of podman that name the options themselves do not heed parameters. */
function othersLayers({ podman, containerd }: Facts, { view }: CureHost): MarkedLayer[] {
  return [
    ...podman
      .filter(({ mountOptions = "", rootless }) => !rootless && !/(^|,)(metacopy|redirect_dir)=/.test(mountOptions))
      .flatMap(({ root }) => findMarkedLayers(`${view.at(root)}/overlay`, "diff")),
    ...containerd.flatMap(({ root }) =>
      findMarkedLayers(`${view.at(root)}/io.containerd.snapshotter.v1.overlayfs/snapshots`, "fs"),
    ),
  ];
}

function describe(marked: readonly MarkedLayer[]): string {
  const shown = marked.slice(0, 3).map(({ id }) => id.slice(0, 12));
  return marked.length > 3 ? `${shown.join(", ")} ...` : shown.join(", ");
}
