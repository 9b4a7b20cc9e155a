/** Changes one value of a storage.conf, and nothing else of it: comments, order and spaces stay. */

const table = "storage.options.overlay";

/** The mount options with both turned off, and all others as they were. */
export function mountOptionsOff(options: string | undefined): string {
  const others = (options ?? "nodev").split(",").filter((one) => one !== "" && !/^(redirect_dir|metacopy)=/.test(one));
  return [...others, "redirect_dir=off", "metacopy=off"].join(",");
}

/**
 * Gives `mountopt` that value: where the key is given (in [storage.options.overlay], or in [storage.options] as older files
 * have it), else at the head of [storage.options.overlay], which is made when it is not there.
 */
export function withMountOptions(text: string, value: string): string {
  const lines = text.split("\n");
  let current = "";
  let place: number | undefined;
  for (const [i, line] of lines.entries()) {
    const header = /^\s*\[\s*([^[\]]+?)\s*\]/.exec(line)?.[1];
    if (header !== undefined) current = header.replaceAll(/["'\s]/g, "");
    if (header !== undefined && current === table) place = i;
    const key = /^(\s*mountopt\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')(.*)$/.exec(line);
    if (key === null || (current !== table && current !== "storage.options")) continue;
    lines[i] = `${key[1]}"${value}"${key[3]}`;
    // The table's own key has the last word.
    if (current === table) return lines.join("\n");
    place = -1;
  }
  if (place === -1) return lines.join("\n");
  const key = `mountopt = "${value}"`;
  if (place !== undefined) {
    lines.splice(place + 1, 0, key);
    return lines.join("\n");
  }
  return `${text}${text === "" || text.endsWith("\n") ? "" : "\n"}\n[${table}]\n${key}\n`;
}
