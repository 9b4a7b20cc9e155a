/** The sentences a report begins with, the same on the terminal and in a page. */
import { humanDuration } from "../../lib/human-duration.ts";
import { type MeasureReport, naiveSleepMs } from "../measure/measure.ts";
import type { WatchReport } from "../watch/watch.ts";

export function watchVerdict({ looks, activities, source }: WatchReport): string {
  const naive = activities.find(({ activity }) => activity === "naive-diff");
  const share = `${Math.round((naive?.share ?? 0) * 100)} %`;
  if (looks === undefined)
    return naive === undefined
      ? `No naive diff in ${source}: dockerd did not compare whole trees.`
      : `Docker compared whole trees for ${share} of what is in ${source}.`;
  if (looks.busy === 0)
    return "Nothing was going on with layers: start the slow build first, and look again while it runs.";
  const idle = looks.all - looks.busy;
  const atWork = idle === 0 ? "" : ` (in ${idle} of ${looks.all} looks nothing was going on)`;
  if (naive === undefined) return `No naive diff was going on: dockerd does not compare whole trees${atWork}.`;
  return `Docker compares whole trees: ${looks.naive} of ${looks.busy} looks at its work found it there, ${share} of all samples${atWork}.`;
}

export function measureVerdict({ tree, nativeMs, naiveMs, ratio, engine }: MeasureReport): string {
  const times = `Finding what a step changed among ${tree.entries} files takes ${humanDuration(nativeMs)} natively and ${humanDuration(naiveMs)} naively: ${asLong(ratio)}.`;
  if (engine?.diff === undefined) return times;
  return `${times} Docker here does it ${engine.diff === "native" ? "natively" : `naively, and waits for the next full second after it (${humanDuration(naiveSleepMs)} on average)`}.`;
}

function asLong(ratio: number): string {
  return ratio >= 10 ? `${Math.round(ratio)} times as long` : `${ratio.toFixed(1)} times as long`;
}

/** A row of the charts. Times are milliseconds. */
export interface MeasureRow {
  readonly label: string;
  readonly ms: number;
  readonly tone: "good" | "bad" | "plain";
  readonly says: string;
}

/** What was measured. */
export function measuredRows({ nativeMs, naiveMs, build, engine }: MeasureReport): MeasureRow[] {
  const rows: MeasureRow[] = [
    { label: "native diff", ms: nativeMs, tone: "good", says: humanDuration(nativeMs) },
    { label: "naive diff", ms: naiveMs, tone: "bad", says: humanDuration(naiveMs) },
  ];
  if (build === undefined) return rows;
  const stepMs = build.ms / build.steps;
  const label = `a step of docker build${engine?.diff === undefined ? "" : ` (${engine.diff} now)`}`;
  return [...rows, { label, ms: stepMs, tone: "plain", says: humanDuration(stepMs) }];
}

/** What is reckoned from it for the user's images: a naive step, with Docker's sleep. */
export function imageRows({ images }: MeasureReport): MeasureRow[] {
  return images.map(({ name, entries, naiveMs }) => ({
    label: `${name} (${entries} files)`,
    ms: naiveMs + naiveSleepMs,
    tone: "bad",
    says: humanDuration(naiveMs + naiveSleepMs),
  }));
}

export const imageRowsTitle = "A naive step on your images, reckoned, with Docker's wait for the next full second";
