/** The page around a report: one file that loads nothing, light or dark as the reader's system is. */
import { Html, html } from "./html.ts";

const styles = new Html(`
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2330;--dim:#667085;--line:#e4e7ec;--soft:#f5f7fa;--bad:#d6472b;--good:#1a8f5a;--cool:#3b6fd6}
@media(prefers-color-scheme:dark){:root{--bg:#14171f;--fg:#e6e9f0;--dim:#98a2b3;--line:#2c323f;--soft:#1c212c;--bad:#ff7a5c;--good:#4cc38a;--cool:#7aa2ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:24px;line-height:1.25;margin:0 0 6px}
h2{font-size:17px;margin:34px 0 10px}
p{margin:6px 0}
.dim,footer{color:var(--dim)}
.lead{font-size:17px}
code,.mono{font:13px/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
table{border-collapse:collapse;width:100%}
td,th{padding:5px 12px 5px 0;text-align:left;vertical-align:middle;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--dim);font-size:13px}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.wide{width:45%}
.bar{display:block;height:14px;border-radius:3px;min-width:2px;background:var(--cool)}
.bar.bad{background:var(--bad)}.bar.good{background:var(--good)}
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:10px 12px;overflow:auto;margin:8px 0;white-space:pre-wrap}
footer{margin-top:40px;font-size:13px}`);

export interface Page {
  readonly title: string;
  readonly body: Html;
  /** Further rules and programs of the page's parts. */
  readonly styles?: Html;
  readonly script?: Html;
}

/** The text of the file. */
export function renderPage({ title, body, styles: more = new Html(""), script = new Html("") }: Page): string {
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title><style>${styles}${more}</style></head>
<body><main>
${body}
<footer>Made by lamella doctor. This file loads nothing from anywhere.</footer>
</main><script>${script}</script></body></html>
`.text;
}

export interface BarRow {
  readonly label: string;
  /** What the bar is as long as. */
  readonly value: number;
  readonly says: string;
  readonly tone?: "good" | "bad" | "plain";
}

/** Rows of a table with a bar each; the longest bar is that of the largest value. */
export function barTable(rows: readonly BarRow[], head?: readonly [string, string]): Html {
  const largest = Math.max(...rows.map(({ value }) => value), Number.MIN_VALUE);
  const top =
    head === undefined ? html`` : html`<tr><th>${head[0]}</th><th></th><th class="number">${head[1]}</th></tr>`;
  return html`<table>${top}${rows.map(
    ({ label, value, says, tone = "plain" }) =>
      html`<tr><td>${label}</td><td class="wide"><span class="bar ${tone}" style="width:${((value / largest) * 100).toFixed(2)}%"></span></td><td class="number">${says}</td></tr>
`,
  )}</table>`;
}
