/**
 * The short names of overlay2, Docker's way to fit many layers into the options of one mount:
 *
 *     l/<26 characters>  ->  ../<id>/diff
 *     <id>/link          the 26 characters
 *     <id>/lower         l/<26>:l/<26>:...   uppermost first
 *
 * A power cut may leave `link` and `lower` empty (before Docker 20.10.27, 23.0.8, 24.0.7 and 25.0 they were not written
 * atomically); then containers on that layer fail with "too many levels of symbolic links", or get files that are not theirs.
 */
import type { HostView } from "../host-view.ts";

/** One line for each layer whose names lead nowhere. */
export function brokenLinks(host: HostView, home: string, layers: readonly string[]): string[] {
  const names = host.names(`${home}/l`);
  if (names === undefined) return layers.length === 0 || host.exists(`${home}/l`) ? [] : [`${home}/l is missing`];
  const known = new Set(names);
  const broken: string[] = [];
  for (const id of layers) {
    if (!host.stat(`${home}/${id}`)?.isDirectory() || !host.exists(`${home}/${id}/diff`)) continue;
    const problem = problemOf(host, home, id, known);
    if (problem !== undefined) broken.push(problem);
  }
  return broken;
}

function problemOf(host: HostView, home: string, id: string, known: ReadonlySet<string>): string | undefined {
  const at = `${home}/${id}`;
  // One that may not be read is no broken one.
  const link = host.exists(`${at}/link`) ? host.text(`${at}/link`) : "";
  if (link === undefined) return undefined;
  if (!/^[A-Z0-9]{26}$/.test(link)) return `${at}/link is ${link === "" ? "missing or empty" : "not a short name"}`;
  if (!known.has(link)) return `${home}/l/${link} is missing`;
  if (host.link(`${home}/l/${link}`) !== `../${id}/diff`) return `${home}/l/${link} does not lead to ${id}`;
  if (!host.exists(`${at}/lower`)) return undefined;
  const lower = host.text(`${at}/lower`);
  if (lower === undefined) return undefined;
  const lost = lower.split(":").find((name) => !known.has(name.replace(/^l\//, "")));
  if (lost === undefined) return undefined;
  return lower === "" ? `${at}/lower is empty` : `${at}/lower names ${lost}, which is missing`;
}
