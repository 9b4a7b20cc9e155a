import { homedir } from "node:os";
import { resolve } from "node:path";
import type { Command } from "commander";
import { isCurable } from "../../doctor/cures/curable.ts";
import type { Diagnosis } from "../../doctor/doctor.ts";
import type { Facts } from "../../doctor/facts.ts";
import type { Finding, Severity } from "../../doctor/findings/finding.ts";
import { humanSize } from "../../lib/human-size.ts";
import { textTable } from "../../lib/text-table.ts";
import { wrapText } from "../../lib/wrap-text.ts";
import type { Cli } from "../cli.ts";
import {
  addCureOptions,
  asksForCure,
  type CureOptions,
  cureExamples,
  runCure,
  stateDirectory,
  tellOpenCures,
} from "../doctor/cures.ts";
import { addEvidenceOptions, type EvidenceFlags, evidenceExamples } from "../doctor/evidence-options.ts";
import { giveEvidence } from "../doctor/give-evidence.ts";
import { stdout } from "../output.ts";
import { type Style, stdoutStyle } from "../style.ts";

/** What the command ends with when there are findings other than notes. */
const findingsStatus = 3;

const examples = `
Looks at Docker (DOCKER_HOST, the usual and the rootless socket, data roots of daemons that do not run), podman, containerd,
Lamella's own root, and at every DIR. Needs no store and no root; what it may not see, it says. It changes nothing without --fix.
Exits 0 when all is well, 3 with findings, 1 when it failed.

Example:
  lamella doctor
  sudo lamella doctor                           also tries overlayfs and looks into the data roots
  lamella doctor --only /mnt/old-disk/docker    that data root and nothing else
  lamella doctor --json | jq -r '.findings[].id'${evidenceExamples}`;

export function define(command: Command, cli: Cli): void {
  addEvidenceOptions(command);
  command
    .argument("[dir...]", "further data roots, of Docker, podman, containerd or Lamella")
    .option("--only", "look at these data roots and at DOCKER_HOST, not at where engines usually are")
    .addHelpText("after", `${examples}\n${cureExamples}`);
  addCureOptions(command);
  type Options = EvidenceFlags & CureOptions & { readonly only?: boolean };
  command.action(async (directories: readonly string[], options: Options) => {
    const { only = false, ...flags } = options;
    const isCure = asksForCure(options);
    if (!isCure && (await giveEvidence(cli, command, flags, directories))) return;
    const { examine } = await import("../../doctor/doctor.ts");
    const { root, json, quiet } = cli.globals(command);
    const look = (): Promise<Diagnosis> =>
      examine({
        env: { ...process.env, HOME: homedir() },
        uid: process.getuid?.() ?? 0,
        roots: directories.map((directory) => resolve(directory)),
        onlyRoots: only,
        lamellaRoot: root,
        signal: cli.signal,
      });
    if (isCure) return runCure({ cli, command, options, examine: look });
    const diagnosis = await look();
    if (!diagnosis.healthy) cli.exitStatus = findingsStatus;
    if (json) return cli.printJson(diagnosis);
    if (quiet) return cli.write(diagnosis.findings.map(({ id }) => `${id}\n`).join(""));
    const absent = only ? "none found where it was asked for" : "none found";
    cli.write(render(diagnosis, { style: stdoutStyle(), columns: Math.min(stdout.columns, 120), absent }));
    await tellOpenCures(cli, stateDirectory(options, root));
  });
}

interface Look {
  readonly style: Style;
  readonly columns: number;
  /** What is said of an engine that was not found. */
  readonly absent: string;
}

function render({ facts, findings }: Diagnosis, { style, columns, absent }: Look): string {
  const parts = [summary(facts, style, absent), verdict(findings, style)];
  for (const finding of findings) parts.push(renderFinding(finding, style, columns));
  if (facts.unseen.length > 0) {
    const lines = facts.unseen.map(({ what, why }) => `  ${what}: ${why}\n`).join("");
    parts.push(`${style.bold("Not seen:")}\n${lines}`);
  }
  return parts.join("\n");
}

/** One line for each thing looked at. */
function summary(facts: Facts, style: Style, absent: string): string {
  const { host, overlay } = facts;
  const { redirect_dir: redirectDir, metacopy } = overlay.parameters;
  const parameters = redirectDir === undefined ? "" : `, redirect_dir=${redirectDir} metacopy=${metacopy ?? "unknown"}`;
  const rows: [string, string][] = [
    ["Host", `Linux ${host.kernel} ${host.machine}, ${host.uid === 0 ? "as root" : `as user ${host.uid}`}`],
    ["Overlay", `${presenceText[overlay.presence]}${parameters}${futureText(facts)}`],
    ...engineRows("Docker", facts, facts.docker, (one) =>
      [one.version ?? runningText(one.running), one.driver ?? "driver unknown", nativeText(one.status)]
        .filter(Boolean)
        .join(", "),
    ),
    ...engineRows("podman", facts, facts.podman, ({ driver = "overlay", mountOptions }) =>
      [driver, mountOptions].filter(Boolean).join(", "),
    ),
    ...engineRows(
      "containerd",
      facts,
      facts.containerd,
      ({ snapshotters }) => snapshotters.join(", ") || "no snapshots",
    ),
    ...engineRows("Lamella", facts, facts.lamella, ({ drivers }) => drivers.join(", ") || "no layers"),
  ];
  return textTable(rows.map(([name, text]) => [style.bold(name), text || absent]));
}

const presenceText = {
  builtin: "built in",
  "loaded module": "module, loaded",
  module: "module, not loaded",
  absent: "this kernel has none",
  unknown: "unknown whether this kernel has it",
} as const;

function futureText({ overlay }: Facts): string {
  const changed = ["redirect_dir", "metacopy"].flatMap((name) => {
    const future = overlay.afterReboot[name];
    const isSame =
      future === undefined || overlay.parameters[name] === undefined || future.value === overlay.parameters[name];
    return isSame ? [] : [`${name}=${future.value} (${future.source})`];
  });
  return changed.length === 0 ? "" : `; after a reboot ${changed.join(" ")}`;
}

function runningText(running: boolean | undefined): string {
  if (running === undefined) return "could not be asked";
  return running ? "running" : "not running";
}

function nativeText(status: readonly (readonly [string, string])[]): string {
  const native = status.find(([key]) => key === "Native Overlay Diff")?.[1];
  return native === undefined ? "" : `native diff: ${native}`;
}

function engineRows<T extends { readonly root: string }>(
  name: string,
  { roots }: Facts,
  engines: readonly T[],
  describe: (engine: T) => string,
): [string, string][] {
  if (engines.length === 0) return [[name, ""]];
  return engines.map((engine) => {
    const { fileSystem = "unknown file system", availableBytes } = roots[engine.root] ?? {};
    const free = availableBytes === undefined ? "" : `, ${humanSize(availableBytes)} free`;
    return [name, `${describe(engine)}; ${engine.root} on ${fileSystem}${free}`];
  });
}

const severityStyle = { error: "red", warning: "yellow", note: "cyan" } as const satisfies Record<
  Severity,
  keyof Style
>;

function verdict(findings: readonly Finding[], style: Style): string {
  const counts = (["error", "warning", "note"] as const).flatMap((severity) => {
    const count = findings.filter((one) => one.severity === severity).length;
    return count === 0 ? [] : [style[severityStyle[severity]](`${count} ${severity}${count === 1 ? "" : "s"}`)];
  });
  const isHealthy = findings.every(({ severity }) => severity === "note");
  const all = isHealthy ? [style.green("nothing wrong found"), ...counts] : counts;
  return `${style.bold("Diagnosis:")} ${all.join(", ")}\n`;
}

function renderFinding(finding: Finding, style: Style, columns: number): string {
  const { id, severity, subject, sentence, evidence, cost, cures } = finding;
  const lines = [`${style[severityStyle[severity]](severity)} ${style.bold(id)} ${style.dim(subject)}`];
  lines.push(...wrapText(sentence, columns, "  "));
  for (const { source, said } of evidence) lines.push(...wrapText(`${source}: ${said}`, columns, "  seen  "));
  lines.push(...wrapText(cost, columns, "  cost  "));
  for (const cure of cures) lines.push(...wrapText(cure, columns, "  cure  "));
  if (isCurable(id)) lines.push(`  fix   lamella doctor --fix ${id}`);
  return `${lines.join("\n")}\n`;
}
