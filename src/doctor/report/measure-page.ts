/** The page that `doctor --measure --html` writes. */
import { humanDuration } from "../../lib/human-duration.ts";
import type { MeasureReport } from "../measure/measure.ts";
import { html } from "./html.ts";
import { type BarRow, barTable, renderPage } from "./page.ts";
import { imageRows, imageRowsTitle, type MeasureRow, measuredRows, measureVerdict } from "./verdicts.ts";

export function measurePage(report: MeasureReport): string {
  const { tree, fileSystem, diff, build, engine, notes, nativeMs } = report;
  const images = imageRows(report);
  const daemon =
    engine === undefined ? "" : `, Docker ${engine.version ?? ""} on ${engine.driver ?? "an unknown driver"}`;
  const body = html`<h1>What finding a step's changes costs here</h1>
<p class="lead">${measureVerdict(report)}</p>
<p class="dim">${tree.name}, ${tree.entries} entries, on ${fileSystem}${daemon}; a step that writes ${diff.changes} names; medians of ${diff.naiveMs.length} rounds, with everything in the page cache</p>
<h2>Measured</h2>
${barTable(measuredRows(report).map(barOf), ["", "time"])}
${build === undefined ? html`` : html`<p class="dim">docker build: ${build.steps} steps that copy a file each, ${humanDuration(build.ms)} in all, by the classic builder</p>`}
${
  images.length === 0
    ? html``
    : html`<h2>${imageRowsTitle}</h2>
${barTable(images.map(barOf), ["image", "a step"])}
<p class="dim">Natively each of these steps takes about ${humanDuration(nativeMs)}, whatever the image: what counts is what the step wrote.</p>`
}
${notes.length === 0 ? html`` : html`<h2>Notes</h2>${notes.map((note) => html`<p>${note}</p>`)}`}`;
  return renderPage({ title: "What finding a step's changes costs here", body });
}

function barOf({ label, ms, says, tone }: MeasureRow): BarRow {
  return { label, value: ms, says, tone };
}
