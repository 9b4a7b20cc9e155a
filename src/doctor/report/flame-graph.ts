/**
 * A flame graph as SVG in a page: drawn here, so that it is there without any script; a small script adds zooming by a click
 * and searching. Two pictures of one profile, upright (callers below, what ran on top) and inverted (what ran on top, its
 * callers hanging below), and radio buttons to choose.
 */
import { type FlameNode, flameDepth, flameTree } from "../../profile/flame-tree.ts";
import type { Profile } from "../../profile/profile.ts";
import { activitiesOf } from "../watch/activity.ts";
import { Html, html } from "./html.ts";

const width = 1072;
const rowHeight = 18;
/** A narrower node is not drawn. In pixels. */
const narrowest = 0.6;
const characterWidth = 6.6;

const naive = { from: 8, to: 22, saturation: 78, lightness: 62 };
const layers = { from: 205, to: 222, saturation: 62, lightness: 70 };
const plain = { from: 40, to: 52, saturation: 48, lightness: 74 };

export const flameStyles = new Html(`
.flames input[type=radio]{position:absolute;opacity:0}
.flames label{display:inline-block;padding:4px 12px;border:1px solid var(--line);border-radius:6px;margin-right:6px;cursor:pointer}
.flames input:focus-visible+label{outline:2px solid var(--cool)}
#flame-upright:checked+label,#flame-inverted:checked+label{background:var(--soft);font-weight:600}
.flames svg{display:none;width:100%;height:auto;margin-top:12px}
.flames:has(#flame-upright:checked) svg.upright,.flames:has(#flame-inverted:checked) svg.inverted{display:block}
.flames g.node{cursor:pointer}
.flames g.node:hover rect{stroke:#1d2330;stroke-width:1}
.flames rect{stroke:rgba(255,255,255,.75);stroke-width:.6}
.flames text{font:11px ui-monospace,"DejaVu Sans Mono",monospace;fill:#1d2330;pointer-events:none}
.flames g.found rect{fill:#c86dd7}
.flames g.above rect{opacity:.55}
.flames input[type=search]{float:right;padding:4px 10px;border:1px solid var(--line);border-radius:6px;background:var(--bg);color:var(--fg);font:inherit;width:230px}
.flames .told{min-height:1.5em;margin-top:8px;overflow-wrap:anywhere}
.key span{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 14px}`);

/** Upright and inverted, with the controls. */
export function flameGraphs(profile: Profile): Html {
  return html`<div class="flames">
<input type="radio" name="flame" id="flame-upright" checked><label for="flame-upright">Upright</label>
<input type="radio" name="flame" id="flame-inverted"><label for="flame-inverted">Inverted, by what ran</label>
<input type="search" placeholder="Search" aria-label="Search, a regular expression">
${drawing(flameTree(profile, "upright"), profile, "upright")}
${drawing(flameTree(profile, "inverted"), profile, "inverted")}
<p class="told mono dim">Click a function to zoom in, the widest to zoom out.</p>
<p class="key dim"><span style="background:${colour("", naive)}"></span>the naive diff<span style="background:${colour("", layers)}"></span>other work on layers<span style="background:${colour("", plain)}"></span>everything else</p>
</div>`;
}

function drawing(tree: FlameNode, profile: Profile, direction: "upright" | "inverted"): Html {
  const height = flameDepth(tree) * rowHeight;
  const nodes: Html[] = [];
  const place = (node: FlameNode, level: number, x: number, palette: Palette): void => {
    const w = tree.weight === 0 ? width : (node.weight / tree.weight) * width;
    if (w < narrowest) return;
    const own = paletteOf(node.name) ?? (direction === "upright" ? palette : above(node, palette));
    const y = direction === "upright" ? height - (level + 1) * rowHeight : level * rowHeight;
    nodes.push(rectangle(node, tree, { x, y, w, level, unit: profile.unit, fill: colour(node.name, own) }));
    let at = x;
    for (const child of node.children) {
      place(child, level + 1, at, own);
      at += (child.weight / tree.weight) * width;
    }
  };
  place(tree, 0, 0, plain);
  return html`<svg class="${direction}" viewBox="0 0 ${width} ${height}" role="img" aria-label="Flame graph, ${direction}">${nodes}</svg>`;
}

/** Inverted, what a function ran for hangs below it: it has the colour of what most of it was for. */
function above(node: FlameNode, palette: Palette): Palette {
  if (palette !== plain) return palette;
  return [naive, layers].find((one) => weightOf(node, one) * 2 > node.weight) ?? plain;
}

/** Weight of what passed through a function of this colour. */
function weightOf({ name, weight, children }: FlameNode, palette: Palette): number {
  if (paletteOf(name) === palette) return weight;
  return children.reduce((sum, child) => sum + weightOf(child, palette), 0);
}

interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly level: number;
  readonly unit: string;
  readonly fill: string;
}

function rectangle({ name, weight }: FlameNode, tree: FlameNode, { x, y, w, level, unit, fill }: Place): Html {
  const share = `${((weight / Math.max(tree.weight, 1)) * 100).toFixed(1)} %`;
  const amount = unit === "nanoseconds" ? `${(weight / 1e6).toFixed(0)} ms` : `${weight} samples`;
  const room = Math.floor((w - 6) / characterWidth);
  const label = shortName(name);
  const shown = room < 3 ? "" : label.length <= room ? label : `${label.slice(0, room - 1)}…`;
  return html`<g class="node" data-x="${x.toFixed(2)}" data-w="${w.toFixed(2)}" data-l="${level}" data-n="${label}"><title>${name}: ${amount}, ${share}</title><rect x="${x.toFixed(2)}" y="${y}" width="${w.toFixed(2)}" height="${rowHeight - 1}" rx="2" fill="${fill}"/><text x="${(x + 3).toFixed(2)}" y="${y + 12.5}">${shown}</text></g>
`;
}

/** Without what all of Docker's names have in common. */
export function shortName(name: string): string {
  return name.replace(/^github\.com\/(docker\/docker|moby\/moby(\/v2)?|moby)\//, "");
}

interface Palette {
  readonly from: number;
  readonly to: number;
  readonly saturation: number;
  readonly lightness: number;
}

/** Undefined: as what is around it. */
function paletteOf(name: string): Palette | undefined {
  const activities = activitiesOf([name]);
  if (activities.includes("naive-diff")) return naive;
  return activities.length > 0 ? layers : undefined;
}

/** The same name always has the same shade. */
function colour(name: string, { from, to, saturation, lightness }: Palette): string {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 997;
  return `hsl(${(from + ((to - from) * hash) / 997).toFixed(0)} ${saturation}% ${(lightness + (hash % 9) - 4).toFixed(0)}%)`;
}

/** Zoom and search. Names are read from attributes, never made into markup. */
export const flameScript = new Html(`
for (const box of document.querySelectorAll(".flames")) {
  const told = box.querySelector(".told"), search = box.querySelector("input[type=search]");
  for (const svg of box.querySelectorAll("svg")) {
    const nodes = [...svg.querySelectorAll("g.node")].map((g) => ({ g, x: +g.dataset.x, w: +g.dataset.w, l: +g.dataset.l,
      rect: g.querySelector("rect"), text: g.querySelector("text"), name: g.dataset.n }));
    const zoom = (to) => {
      const scale = ${width} / to.w;
      for (const n of nodes) {
        const isAbove = n.l < to.l && n.x <= to.x + .01 && n.x + n.w >= to.x + to.w - .01;
        const isInside = n.l >= to.l && n.x >= to.x - .01 && n.x + n.w <= to.x + to.w + .01;
        n.g.style.display = isAbove || isInside ? "" : "none";
        n.g.classList.toggle("above", isAbove);
        const x = isAbove ? 0 : (n.x - to.x) * scale, w = isAbove ? ${width} : n.w * scale;
        n.rect.setAttribute("x", x); n.rect.setAttribute("width", Math.max(w, 0));
        n.text.setAttribute("x", x + 3);
        const room = Math.floor((w - 6) / ${characterWidth});
        n.text.textContent = room < 3 ? "" : n.name.length <= room ? n.name : n.name.slice(0, room - 1) + "\\u2026";
      }
    };
    for (const n of nodes) {
      n.g.addEventListener("click", () => zoom(n));
      n.g.addEventListener("mouseenter", () => { told.textContent = n.g.querySelector("title").textContent; });
    }
    search.addEventListener("input", () => {
      let wanted = null;
      try { wanted = search.value ? new RegExp(search.value, "i") : null; } catch { return; }
      for (const n of nodes) n.g.classList.toggle("found", wanted !== null && wanted.test(n.name));
    });
  }
}`);
