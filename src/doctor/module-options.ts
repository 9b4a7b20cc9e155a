/** Options of the overlay module in modprobe.d files and on the kernel command line. */
import type { OptionSource } from "./facts.ts";

/** Lines `options overlay NAME=VALUE ...` of one file; a backslash at a line's end continues it (modprobe.d(5)). */
export function overlayOptionsOfModprobe(text: string, path: string): OptionSource[] {
  const found: OptionSource[] = [];
  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const number = i + 1;
    let line = lines[i] ?? "";
    while (line.endsWith("\\") && i + 1 < lines.length) line = `${line.slice(0, -1)} ${lines[++i]}`;
    const [command, module, ...words] = line.trim().split(/\s+/);
    if (command !== "options" || module !== "overlay") continue;
    for (const word of words) found.push({ ...splitOption(word), source: `${path}:${number}` });
  }
  return found;
}

/** Words `overlay.NAME=VALUE`; in names, dash and underscore are the same (kernel/params.c). */
export function overlayOptionsOfCommandLine(text: string): OptionSource[] {
  return text
    .trim()
    .split(/\s+/)
    .filter((word) => word.startsWith("overlay."))
    .map((word) => ({ ...splitOption(word.slice("overlay.".length)), source: "/proc/cmdline" }));
}

/** Values are given as /sys shows them: `on`, `1`, `y` and nothing at all are `Y`. */
function splitOption(word: string): { name: string; value: string } {
  const equals = word.indexOf("=");
  const name = (equals < 0 ? word : word.slice(0, equals)).replaceAll("-", "_");
  return { name, value: equals < 0 ? "Y" : truthOf(word.slice(equals + 1).replaceAll('"', "")) };
}

/** As kstrtobool of the kernel does; what is no truth value stays as it is. */
function truthOf(value: string): string {
  if (/^(y|1|t|on)/i.test(value) && !/^\d{2,}$/.test(value)) return "Y";
  return /^(n|0|f|of)/i.test(value) && !/^\d{2,}$/.test(value) ? "N" : value;
}
