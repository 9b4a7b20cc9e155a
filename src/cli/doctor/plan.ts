/** How a plan of `lamella doctor --fix` looks on a terminal. */
import { createTwoFilesPatch } from "diff";
import type { Plan } from "../../doctor/cures/plan.ts";
import type { Step } from "../../doctor/cures/steps/step.ts";
import { kindOf } from "../../doctor/cures/steps/step-kinds.ts";
import { humanSize } from "../../lib/human-size.ts";
import type { Style } from "../style.ts";

/** A line. */
export function describeStep(step: Step): string {
  return kindOf(step).describe(step);
}

/** `state`: the directory that keeps what the undo needs. */
export function renderPlan(plan: Plan, { style, state }: { readonly style: Style; readonly state: string }): string {
  const { id, subject, summary, steps, notes, byHand, downtime, copies } = plan;
  const lines = [`${style.bold(`Cure of ${id}`)} ${style.dim(subject)}`, `  ${summary}`, ""];
  for (const [index, step] of steps.entries()) {
    lines.push(`  ${String(index + 1).padStart(2)}. ${describeStep(step)}`);
    if (step.kind === "write-file") lines.push(...patchLines(step, style));
  }
  const facts: [string, string][] = [];
  if (downtime !== undefined) {
    const containers = downtime.containers.join(", ");
    const stopped = containers === "" ? "" : `; these containers stop, and are started again: ${containers}`;
    facts.push(["Downtime", `about ${downtime.seconds} s of ${downtime.engines.join(", ")}${stopped}`]);
  }
  if (copies !== undefined) facts.push(["Copies", `${humanSize(copies.bytes)}, about ${copies.seconds} s`]);
  for (const note of notes) facts.push(["Note", note]);
  for (const one of byHand) facts.push(["By hand", one]);
  if (steps.length > 0)
    facts.push(["Backups", `in ${state}/${id}, until --finish`], ["Undo", `lamella doctor --undo ${id}`]);
  return `${[...lines, "", ...facts.map(([name, text]) => `  ${style.bold(name.padEnd(9))} ${text}`)].join("\n")}\n\n`;
}

/** A unified diff. */
function patchLines({ path, before, after }: Extract<Step, { kind: "write-file" }>, style: Style): string[] {
  const [from, to] = [before === undefined ? "/dev/null" : path, after === undefined ? "/dev/null" : path];
  const patch = createTwoFilesPatch(from, to, before ?? "", after ?? "", undefined, undefined, { context: 3 });
  const text = patch.split("\n").filter((line) => !/^(=+|Index: .*)$/.test(line));
  const colored = (line: string): string => {
    if (line.startsWith("+")) return style.green(line);
    return line.startsWith("-") ? style.red(line) : line;
  };
  return text.filter((line) => line !== "").map((line) => `        ${colored(line)}`);
}
