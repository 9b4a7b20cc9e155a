/** `lamella doctor --fix`, `--undo` and `--finish`: shows plans, asks, and tells what is done. The cures: src/doctor/cures. */
import { join, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { type Command, Option } from "commander";
import type { Plan } from "../../doctor/cures/plan.ts";
import type { RunOptions } from "../../doctor/cures/run.ts";
import type { Diagnosis } from "../../doctor/doctor.ts";
import type { BuildTime } from "../../doctor/measure/docker-build.ts";
import { parseSize } from "../../drivers/option-values.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { humanDuration } from "../../lib/human-duration.ts";
import type { Cli } from "../cli.ts";
import { stdoutStyle } from "../style.ts";
import { usageError } from "../usage-error.ts";
import type { EvidenceFlags } from "./evidence-options.ts";

export interface CureOptions extends Partial<Pick<EvidenceFlags, "measure" | "entries" | "build">> {
  readonly fix?: string;
  readonly undo?: string;
  readonly finish?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
  readonly state?: string;
  readonly size?: string;
  readonly imageFile?: boolean;
  readonly keepLayers?: boolean;
  readonly mountUnit?: boolean;
}

export const cureExamples = `
Cures: --fix shows what would change, what stops and for how long, and asks; what it does can be undone until --finish, also
when it was killed in the middle. It exits 0 when done, 3 when not done (you said no, or it is left to do by hand), 1 when it
failed, and then all is as it was. A finding that is not there is nothing to do: 0.

Example:
  lamella doctor --fix naive-diff-redirect-dir --dry-run    what would be done
  sudo lamella doctor --fix naive-diff-redirect-dir         shows it, asks, does it
  sudo lamella doctor --fix naive-diff-redirect-dir --measure    times a small docker build before and after
  sudo lamella doctor --undo naive-diff-redirect-dir        as it was before
  sudo lamella doctor --finish orphan-layers                no way back: removes what was kept
  sudo lamella doctor --fix naive-diff-driver --size 200G   on ZFS: the size of the volume`;

export function addCureOptions(command: Command): void {
  command
    .option("--fix <id>", "cure the finding of that id")
    .option("--undo <id>", "put back what --fix changed")
    .option("--finish <id>", "remove what --fix kept for --undo")
    .option("--dry-run", "with --fix: only show the plan")
    .option("-y, --yes", "with --fix: do not ask")
    .option("--state <dir>", "where --fix keeps what --undo needs (default: doctor/ in Lamella's root)")
    .addOption(new Option("--size <bytes>", "with --fix on ZFS: size of the volume, as 200G (default: 100G)"))
    .option("--image-file", "with --fix on ZFS: a file instead of a ZFS volume")
    .option("--mount-unit", "with --fix on ZFS: a unit of systemd instead of a line in /etc/fstab")
    .option("--keep-layers", "with --fix of overlay options: leave layers with redirects as they are");
}

/** True when the options ask for a cure, its undo or its end. Errors: USAGE. */
export function asksForCure({
  fix,
  undo,
  finish,
  yes,
  dryRun,
  size,
  imageFile,
  keepLayers,
  mountUnit,
  build,
}: CureOptions): boolean {
  const modes = [fix, undo, finish].filter((one) => one !== undefined).length;
  if (modes > 1) throw usageError("only one of --fix, --undo and --finish at a time");
  const further = [yes, dryRun, size, imageFile, keepLayers, mountUnit].some((one) => one !== undefined);
  if (fix === undefined && further)
    throw usageError("--yes, --dry-run, --size, --image-file, --keep-layers and --mount-unit go with --fix");
  if (modes === 1 && build === false)
    throw usageError("a build is all that --measure does beside a cure: no --no-build");
  return modes === 1;
}

export interface CureCall {
  readonly cli: Cli;
  readonly command: Command;
  readonly options: CureOptions;
  readonly examine: () => Promise<Diagnosis>;
}

/** Where cures are kept: beside the store of the caller. */
export function stateDirectory({ state }: CureOptions, root: string): string {
  return resolve(state ?? join(root, "doctor"));
}

/** A line for each cure that is not ended. */
export async function tellOpenCures(cli: Cli, state: string): Promise<void> {
  const { openCures } = await import("../../doctor/cures/state.ts");
  const said = {
    begun: "was stopped in the middle: --undo puts all back",
    undoing: "was being undone: --undo goes on",
    cured: "is cured: --undo puts all back, --finish ends it",
    undone: "was undone, and something is kept: --finish removes it",
    finishing: "was being ended: --finish goes on",
  };
  for (const { id, stage } of openCures(state)) cli.print(`${id} ${said[stage]}`);
}

export async function runCure(call: CureCall): Promise<void> {
  const { cli, command, options } = call;
  const { realHost } = await import("../../doctor/cures/cure-host.ts");
  const { root } = cli.globals(command);
  const host = realHost();
  const state = stateDirectory(options, root);
  const run: RunOptions = { state, host, signal: cli.signal };
  if (options.fix !== undefined) return fix(call, options.fix, run);
  await (options.undo === undefined ? end(call, options.finish ?? "", run) : undo(call, options.undo, run));
}

async function fix({ cli, command, options, examine }: CureCall, id: string, run: RunOptions): Promise<void> {
  const { planCure } = await import("../../doctor/cures/planners.ts");
  const { json, quiet } = cli.globals(command);
  const { imageFile, keepLayers, mountUnit } = options;
  const choices = { volumeBytes: sizeOf(options.size), imageFile, keepLayers, mountUnit };
  const diagnosis = await examine();
  const plan = await planCure(diagnosis, id, { host: run.host, choices });
  const report = (outcome: string, more: object = {}): void => {
    if (json) cli.printJson({ schema: 1, id, outcome, ...(plan && { plan: shown(plan) }), ...more });
  };
  if (plan === undefined) {
    if (!json && !quiet) cli.print(`${id} is not found here: nothing to do.`);
    return report("nothing to do");
  }
  if (!json && !quiet) {
    const { renderPlan } = await import("./plan.ts");
    cli.write(renderPlan(plan, { style: stdoutStyle(), state: run.state }));
  }
  if (options.dryRun) return report("planned");
  if (plan.steps.length === 0) {
    cli.exitStatus = 3;
    return report("by hand");
  }
  refuseUnprivileged(plan);
  if (!options.yes && !(await isAgreed(cli))) {
    cli.exitStatus = 3;
    return report("declined");
  }
  const { applyPlan } = await import("../../doctor/cures/run.ts");
  const { say, onEvent } = await telling(cli, { quiet: quiet || json });
  const slow = await timeSteps(cli, plan, diagnosis, options);
  await applyPlan(plan, { ...run, say, onEvent });
  const cured = await examine();
  const after = cured.findings.filter((one) => one.id === id && one.subject === plan.subject);
  const fast = slow && (await timeSteps(cli, plan, cured, options));
  report("cured", { stillThere: after.length > 0, ...(slow && fast && { beforeMs: slow.ms, afterMs: fast.ms }) });
  if (json || quiet) return;
  const style = stdoutStyle();
  for (const { source, said } of plan.before) cli.print(`${style.dim("before")}  ${source}: ${said}`);
  const still = after.flatMap(({ evidence }) => evidence.map(({ source, said }) => `${source}: ${said}`));
  for (const line of still.length > 0 ? still : [`${id} is not found any more`])
    cli.print(`${style.dim("after")}   ${line}`);
  if (slow && fast) cli.print(comparison(slow, fast));
  for (const one of plan.byHand) cli.print(`${style.yellow("by hand")} ${one}`);
  cli.print(`Done. \`lamella doctor --undo ${id}\` puts all back, \`--finish ${id}\` ends the cure.`);
}

/** A small build with the daemon that the plan stops, if `--measure` asks for it. */
async function timeSteps(
  cli: Cli,
  { downtime }: Plan,
  { facts }: Diagnosis,
  { measure: wanted, entries = 20_000 }: CureOptions,
): Promise<BuildTime | undefined> {
  const docker = facts.docker.find((one) => one.running && downtime?.engines.includes(`Docker (${one.root})`));
  if (wanted === undefined || docker === undefined) return undefined;
  const { measure } = await import("../../doctor/measure/measure.ts");
  const image = wanted === true ? {} : { image: wanted };
  return (await measure({ root: docker.root, docker, entries, ...image, signal: cli.signal })).build;
}

function comparison(slow: BuildTime, fast: BuildTime): string {
  const times = `${humanDuration(slow.ms)} before, ${humanDuration(fast.ms)} after`;
  return `A docker build of ${slow.steps} small steps: ${times}, ${(slow.ms / fast.ms).toFixed(1)} times as fast.`;
}

async function undo({ cli, command }: CureCall, id: string, run: RunOptions): Promise<void> {
  const { undoCure } = await import("../../doctor/cures/run.ts");
  const { json, quiet } = cli.globals(command);
  const { kept } = await undoCure(id, { ...run, ...(await telling(cli, { quiet: quiet || json })) });
  if (json) return cli.printJson({ schema: 1, id, outcome: "undone", kept });
  if (quiet) return;
  cli.print(`${id}: all is as it was before the cure.`);
  for (const one of kept) cli.print(`Kept: ${one}`);
  if (kept.length > 0) cli.print(`\`lamella doctor --finish ${id}\` removes what was kept.`);
}

async function end({ cli, command }: CureCall, id: string, run: RunOptions): Promise<void> {
  const { finishCure } = await import("../../doctor/cures/run.ts");
  const { json, quiet } = cli.globals(command);
  const { byHand } = await finishCure(id, { ...run, ...(await telling(cli, { quiet: quiet || json })) });
  if (json) return cli.printJson({ schema: 1, id, outcome: "finished", byHand });
  if (!quiet) cli.print(`${id}: the cure is ended, and what was kept for undoing it is gone.`);
  for (const one of byHand) cli.print(`by hand ${one}`);
}

/** A line for each step, when it begins. */
async function telling(cli: Cli, { quiet }: { readonly quiet: boolean }): Promise<Pick<RunOptions, "say" | "onEvent">> {
  if (quiet) return {};
  const { describeStep } = await import("./plan.ts");
  return {
    say: (message) => cli.print(`   ${message}`),
    onEvent: (event, { steps }) => {
      if (event.event !== "intended" && event.event !== "undoing") return;
      const step = steps[event.step];
      const undoing = event.event === "undoing" ? "undo " : "";
      if (step !== undefined) cli.print(`${undoing}${event.step + 1}/${steps.length} ${describeStep(step)}`);
    },
  };
}

function refuseUnprivileged({ id, steps }: Plan): void {
  const home = process.env.HOME;
  const isOwn = (path: string): boolean =>
    (home !== undefined && path.startsWith(`${home}/`)) || path.startsWith(`/run/user/${process.getuid?.()}/`);
  if (process.getuid?.() === 0 || steps.every((step) => step.kind === "write-file" && isOwn(step.path))) return;
  throw new LamellaError("permission_denied", "NEEDS_ROOT", "this cure changes what belongs to root", {
    hint: `run it as root: \`sudo lamella doctor --fix ${id}\``,
  });
}

/** Errors: USAGE where nobody can be asked. */
async function isAgreed(cli: Cli): Promise<boolean> {
  if (!process.stdin.isTTY)
    throw usageError("nobody is here to ask: standard input is no terminal", "give --yes to do it, --dry-run to look");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question("Do this? [y/N] ", { signal: cli.signal });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}

function sizeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) throw usageError(`${JSON.stringify(text)} is no size`, "write it as 200G");
  return bytes;
}

/** Without what daemons have in their environment, which may be secret. */
function shown(plan: Plan): unknown {
  return JSON.parse(JSON.stringify(plan, (key, value: unknown) => (key === "env" ? undefined : value)));
}
