/** The page that `doctor --watch --html` writes. */
import type { Watched } from "../watch/watch.ts";
import { flameGraphs, flameScript, flameStyles } from "./flame-graph.ts";
import { html } from "./html.ts";
import { barTable, renderPage } from "./page.ts";
import { watchVerdict } from "./verdicts.ts";

export function watchPage({ report, profile }: Watched): string {
  const { activities, log, socket, pid, source, looks, unit, totalWeight } = report;
  const amount = unit === "none" ? `${totalWeight} samples` : `${totalWeight} ${unit}`;
  const where = [socket, pid && `process ${pid}`, source, looks && `${looks.all} looks`, amount]
    .filter(Boolean)
    .join(", ");
  const rows = activities.map(({ activity, says, weight, share }) => ({
    label: says,
    value: weight,
    says: `${Math.round(share * 100)} %`,
    tone: activity === "naive-diff" ? ("bad" as const) : ("plain" as const),
  }));
  const logPart =
    log === undefined || log.lines.length === 0
      ? html``
      : html`<h2>What its log says</h2><p class="dim">${log.source}</p>${log.lines.map(
          ({ line, means }) => html`<p>${means}:</p><pre class="mono">${line}</pre>`,
        )}`;
  const body = html`<h1>What dockerd was doing</h1>
<p class="lead">${watchVerdict(report)}</p>
<p class="dim">${where}</p>
${rows.length === 0 ? html`` : html`<h2>Of the work on layers</h2>${barTable(rows)}<p class="dim">A sample can be in several: a mount within a naive diff counts for both.</p>`}
${profile.samples.length === 0 ? html`` : html`<h2>Flame graph</h2>${flameGraphs(profile)}`}
${logPart}`;
  return renderPage({ title: "What dockerd was doing", body, styles: flameStyles, script: flameScript });
}
