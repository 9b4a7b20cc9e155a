/**
 * `npm run bench`: Lamella against others, on one machine in one run. Every figure is a ratio of medians of interleaved
 * pairs; a peer that is not installed is named, with what is missing.
 *
 *   npm run bench -- --only walk --only info     some rows
 *   npm run bench -- --pairs 9                   more pairs (default 5, the least)
 *   npm run bench -- --json FILE                 the raw times too
 *   npm run bench -- --list                      what there is
 *
 * Runs the compiled program: build first (`npm run build`).
 */
import { existsSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Places, repository } from "./places.ts";
import { median, type Result, type Row, Unavailable } from "./row.ts";
import { build } from "./rows/build.ts";
import { containerLayer } from "./rows/container-layer.ts";
import { deepChain } from "./rows/deep-chain.ts";
import { btrfsDiff, overlayDiff, vfsDiff, zfsDiff } from "./rows/driver-diff.ts";
import { info } from "./rows/info.ts";
import { load } from "./rows/load.ts";
import { naiveDiff } from "./rows/naive-diff.ts";
import { nativeDiff } from "./rows/native-diff.ts";
import { unionData } from "./rows/union-data.ts";
import { unionArchive, unionCopies, unionLower } from "./rows/union-files.ts";
import { unionFind, unionLookup } from "./rows/union-names.ts";
import { walk } from "./rows/walk.ts";

const rows: readonly Row[] = [
  build,
  load,
  nativeDiff,
  naiveDiff,
  btrfsDiff,
  vfsDiff,
  overlayDiff,
  zfsDiff,
  containerLayer,
  deepChain,
  info,
  walk,
  unionFind,
  unionLookup,
  unionData,
  unionCopies,
  unionArchive,
  unionLower,
];
const PEAK_LIMIT = 300 * 1024 * 1024;

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    pairs: { type: "string", default: "5" },
    json: { type: "string" },
    list: { type: "boolean", default: false },
  },
});

function ratioOf({ ours, theirs }: Result): number {
  return median(ours) / median(theirs);
}

function milliseconds(times: readonly number[]): string {
  const value = median(times);
  return value < 10 ? value.toFixed(2) : value.toFixed(0);
}

function ratioText(ratio: number): string {
  return ratio < 0.5 ? `1/${(1 / ratio).toFixed(1)}` : ratio.toFixed(2);
}

function table(results: readonly Result[]): string {
  const head = ["work", "against", "ours ms", "theirs ms", "ratio", "at most", "", "peak MB"];
  const lines = results.map((result) => {
    const ratio = ratioOf(result);
    const { peakBytes } = result;
    return [
      result.work,
      result.peer,
      milliseconds(result.ours),
      milliseconds(result.theirs),
      ratioText(ratio),
      result.limit === undefined ? "" : ratioText(result.limit),
      result.limit === undefined ? "" : ratio <= result.limit ? "ok" : "MISSED",
      peakBytes === undefined ? "" : `${(peakBytes / 1048576).toFixed(0)}${peakBytes > PEAK_LIMIT ? " MISSED" : ""}`,
    ];
  });
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)));
  const print = (line: readonly string[]): string =>
    line.map((cell, i) => (i >= 2 && i <= 5 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join("  ");
  return [head, widths.map((width) => "-".repeat(width)), ...lines].map((line) => print(line).trimEnd()).join("\n");
}

const unknown = values.only?.filter((name) => !rows.some((row) => row.name === name)) ?? [];
if (values.list || unknown.length > 0) {
  if (unknown.length > 0) console.error(`no such benchmark: ${unknown.join(", ")}`);
  for (const { name, about } of rows) console.log(`${name.padEnd(14)}${about}`);
  process.exit(unknown.length > 0 ? 2 : 0);
}
if (!existsSync(join(repository, "dist/src/cli/main.js"))) {
  console.error("dist/ is missing: run `npm run build` first");
  process.exit(2);
}

// A signal is an ordinary end: what was changed for a while is put back.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(130));

const results: Result[] = [];
const absent: string[] = [];
let broken = 0;
using places = new Places();
for (const row of rows) {
  if (values.only !== undefined && !values.only.includes(row.name)) continue;
  try {
    const log = (message: string): void => void process.stderr.write(`${message}\n`);
    results.push(...(await row.run({ places, pairs: Math.max(5, Number(values.pairs)), log })));
  } catch (error) {
    if (error instanceof Unavailable) absent.push(`${row.name}: ${error.message}`);
    else {
      broken++;
      console.error(`${row.name}:`, error);
    }
  }
}

console.log(
  `\nLinux ${release()}, ${availableParallelism()} × ${cpus()[0]?.model.trim() ?? "unknown processor"}, Node.js ${process.version}`,
);
console.log(`medians of ${Math.max(5, Number(values.pairs))} pairs\n`);
console.log(table(results));
const notes = results.filter((result) => result.note !== undefined);
if (notes.length > 0) console.log(`\n${notes.map((result) => `${result.work}: ${result.note}`).join("\n")}`);
if (absent.length > 0) console.log(`\nnot measured:\n${absent.map((line) => `  ${line}`).join("\n")}`);
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify({ results, absent }, null, 2));
process.exitCode = broken > 0 ? 1 : 0;
