/** `lamella doctor --measure`. */
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { resolve } from "node:path";
import type { Command } from "commander";
import { collectFacts } from "../../doctor/collect/collect.ts";
import type { Facts } from "../../doctor/facts.ts";
import { type MeasureReport, measure } from "../../doctor/measure/measure.ts";
import { measurePage } from "../../doctor/report/measure-page.ts";
import {
  imageRows,
  imageRowsTitle,
  type MeasureRow,
  measuredRows,
  measureVerdict,
} from "../../doctor/report/verdicts.ts";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { wrapText } from "../../lib/wrap-text.ts";
import type { Cli } from "../cli.ts";
import { LiveLines } from "../live-lines.ts";
import { stderr, stdout } from "../output.ts";
import { type Style, stdoutStyle } from "../style.ts";
import { bars } from "./bars.ts";
import { callersEnvironment, type EvidenceFlags, writeReport } from "./evidence-options.ts";

const defaultEntries = 20_000;

export async function runMeasure(
  cli: Cli,
  command: Command,
  flags: EvidenceFlags,
  roots: readonly string[],
): Promise<void> {
  const { json, quiet, root: lamellaRoot } = cli.globals(command);
  const named = roots.map((root) => resolve(root));
  const env = callersEnvironment();
  const facts = await collectFacts({
    env,
    uid: process.getuid?.() ?? 0,
    roots: named,
    // A daemon that was named, or a place: the others do not matter.
    onlyRoots: named.length > 0 || (env.DOCKER_HOST ?? "") !== "",
    lamellaRoot,
    signal: cli.signal,
  });
  const root = named[0] ?? placeOf(facts);
  let line = `measuring in ${root}`;
  using lines = new LiveLines(stderr, () => [line], stderr.isTTY && !quiet);
  const report = await measure({
    root,
    docker: facts.docker.find((one) => one.root === root),
    image: flags.measure === true ? undefined : pathOrName(flags.measure ?? ""),
    entries: flags.entries ?? defaultEntries,
    build: flags.build ? undefined : "leave out",
    writeImage: async (image, directory) => writeOwnImage(cli, command, image, directory),
    onProgress: (what) => {
      line = what;
    },
    signal: cli.signal,
  });
  lines[Symbol.dispose]();
  writeReport(cli, flags.html, () => measurePage(report));
  if (json) return cli.printJson(report);
  cli.write(render(report, stdoutStyle(), Math.min(stdout.columns, 120)));
}

/** Docker's data root, another engine's, or the place for temporary files. */
function placeOf({ docker, podman, containerd, lamella }: Facts): string {
  const running = docker.find((one) => one.running);
  return (running ?? docker[0] ?? podman[0] ?? containerd[0] ?? lamella[0])?.root ?? tmpdir();
}

function pathOrName(text: string): string {
  return text.startsWith("/") || text.startsWith("./") || text.startsWith("../") || text === "." ? resolve(text) : text;
}

/** An image of Lamella's own store, where there is one. */
async function writeOwnImage(cli: Cli, command: Command, image: string, directory: string): Promise<boolean> {
  if (!existsSync(cli.globals(command).root)) return false;
  const engine = await cli.engine(command);
  try {
    await engine.exportTree(image, { directory }, { signal: cli.signal });
    return true;
  } catch (error) {
    if (isLamellaError(error, "not_found")) return false;
    throw error;
  }
}

function render(report: MeasureReport, style: Style, columns: number): string {
  const { tree, fileSystem, engine, diff, build, notes } = report;
  const daemon = engine && `Docker ${engine.version ?? ""} on ${engine.driver ?? "an unknown driver"}`;
  const rounds = `${diff.naiveMs.length} rounds`;
  const where = [`${tree.name}, ${tree.entries} entries`, `on ${fileSystem}`, daemon, rounds];
  const parts = [
    `${style.bold(wrapText(measureVerdict(report), columns, "").join("\n"))}\n${style.dim(where.filter(Boolean).join(", "))}\n`,
  ];
  parts.push(chart(measuredRows(report), style, columns));
  if (build !== undefined) parts.push(style.dim(`docker build: ${build.steps} small steps, by the classic builder\n`));
  const images = imageRows(report);
  if (images.length > 0) parts.push(`${style.bold(`${imageRowsTitle}:`)}\n${chart(images, style, columns)}`);
  const lines = notes.flatMap((note) => wrapText(note, columns, "  - "));
  if (notes.length > 0) parts.push(`${style.bold("Notes:")}\n${lines.join("\n")}\n`);
  return parts.join("\n");
}

const toneStyle = { good: "green", bad: "red", plain: "cyan" } as const satisfies Record<
  MeasureRow["tone"],
  keyof Style
>;

function chart(rows: readonly MeasureRow[], style: Style, columns: number): string {
  return bars(
    rows.map(({ label, ms, says, tone }) => ({ label, value: ms, says, paint: style[toneStyle[tone]] })),
    columns,
  );
}
