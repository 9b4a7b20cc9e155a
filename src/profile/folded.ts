/**
 * Folded stacks, the plain text that many flame graph tools exchange: a line for each stack, `outermost;...;innermost WEIGHT`.
 * Semicolons and line breaks in a name become spaces.
 */
import { mergeSamples, type Profile, type StackSample } from "./profile.ts";

/** Ends with a newline unless there is nothing. */
export function writeFolded(profile: Profile): string {
  return mergeSamples(profile)
    .samples.map(({ frames, weight }) => `${frames.map((one) => one.replace(/[;\r\n]/g, " ")).join(";")} ${weight}\n`)
    .join("");
}

/** Undefined when a line of the text is none. Empty lines and lines that begin with `#` are passed over. */
export function readFolded(text: string, name: string): Profile | undefined {
  const samples: StackSample[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line === "" || line.startsWith("#")) continue;
    const [, stack = "", weight] = /^(\S.*) ([0-9]+(?:\.[0-9]+)?)$/.exec(line) ?? [];
    if (weight === undefined) return undefined;
    samples.push({ frames: stack.split(";"), weight: Number(weight) });
  }
  return samples.length === 0 ? undefined : { name, unit: "none", samples };
}
