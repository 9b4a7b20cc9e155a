/**
 * From the text of a Dockerfile to its logical lines: directives, comments, continuations and here-documents resolved,
 * each line with the numbers of the physical lines it came from.
 *
 * A line ends in `\n` or `\r\n`. A comment is a line whose first character that is no white space is `#`, also between
 * the parts of a continued instruction; a blank line there is skipped (and remembered, for the lint). A line is
 * continued by an escape character before its end, white space after it ignored. Here-documents follow the line that
 * announces them, in order, and are taken as they stand.
 */
import type { Directives, Heredoc } from "./ast.ts";
import { DockerfileError, type LineRange } from "./dockerfile-error.ts";
import { jsonStrings, splitFlags, splitWords } from "./words.ts";

export interface LogicalLine extends LineRange {
  readonly keyword: string;
  /** What follows the keyword, trimmed. */
  readonly rest: string;
  /** The joined line. */
  readonly original: string;
  readonly heredocs: readonly Heredoc[];
}

export interface Lines {
  readonly directives: Directives;
  readonly lines: readonly LogicalLine[];
  readonly emptyContinuationLines: readonly number[];
}

interface LineOptions {
  /** For error messages. */
  readonly fileName?: string;
  /** Given: the text is a single instruction without directives (an ONBUILD trigger). */
  readonly escape?: Directives["escape"];
}

const heredocKeywords = /^(?:RUN|COPY|ADD)$/i;

/** Splits `text`; throws {@link DockerfileError} for bad directives and unterminated here-documents. */
export function splitLines(text: string, options: LineOptions = {}): Lines {
  const physical = text.replace(/^\ufeff/, "").split("\n");
  if (physical.at(-1) === "") physical.pop();
  const directives = options.escape === undefined ? readDirectives(physical, options) : { escape: options.escape };
  const escapeChar = directives.escape;

  const lines: LogicalLine[] = [];
  const emptyContinuationLines: number[] = [];
  let at = 0;
  while (at < physical.length) {
    const startLine = at + 1;
    const first = chomp(physical[at++] ?? "").trimStart();
    if (first === "" || first.startsWith("#")) continue;
    let [original, continued] = uncontinue(first, escapeChar);
    while (continued && at < physical.length) {
      const line = chomp(physical[at++] ?? "");
      const trimmed = line.trim();
      if (trimmed.startsWith("#")) continue;
      if (trimmed === "") {
        emptyContinuationLines.push(at);
        continue;
      }
      const [part, more] = uncontinue(line, escapeChar);
      original += part;
      continued = more;
    }
    const [keyword, rest] = splitKeyword(original);
    const heredocs: Heredoc[] = [];
    for (const opening of heredocOpenings(keyword, rest, escapeChar)) {
      const heredoc = readHeredoc(physical, at, opening);
      if (heredoc === undefined) {
        throw new DockerfileError(
          "DOCKERFILE_HEREDOC",
          `unterminated heredoc: no line is ${JSON.stringify(opening.name)}`,
          { startLine, endLine: physical.length },
          options,
        );
      }
      heredocs.push(heredoc);
      at = heredoc.endLine;
    }
    if (keyword !== "") lines.push({ keyword, rest, original: original.trimEnd(), heredocs, startLine, endLine: at });
  }
  return { directives, lines, emptyContinuationLines };
}

/** The keyword and the trimmed rest of a joined line. */
export function splitKeyword(line: string): [keyword: string, rest: string] {
  const trimmed = line.trim();
  const end = trimmed.search(/\s/);
  return end < 0 ? [trimmed, ""] : [trimmed.slice(0, end), trimmed.slice(end).trim()];
}

function readDirectives(physical: readonly string[], options: LineOptions): Directives {
  const found = new Map<string, string>();
  for (const [i, line] of physical.entries()) {
    const [, key = "", value = ""] = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/.exec(chomp(line)) ?? [];
    const name = key.toLowerCase();
    if (name !== "escape" && name !== "syntax" && name !== "check") break;
    const place = { startLine: i + 1, endLine: i + 1 };
    if (found.has(name)) {
      throw new DockerfileError("DOCKERFILE_DIRECTIVE", `the directive ${name} appears twice`, place, options);
    }
    if (name === "escape" && value !== "\\" && value !== "`") {
      throw new DockerfileError("DOCKERFILE_DIRECTIVE", `invalid escape ${JSON.stringify(value)}`, place, {
        ...options,
        hint: "the escape character is \\ or `",
      });
    }
    found.set(name, value);
  }
  const syntax = found.get("syntax");
  const check = found.get("check");
  return {
    escape: found.get("escape") === "`" ? "`" : "\\",
    ...(syntax === undefined ? {} : { syntax }),
    ...(check === undefined ? {} : { check }),
  };
}

/** The line without its continuation character, and whether it had one. A doubled escape character is none. */
function uncontinue(line: string, escapeChar: string): [text: string, continued: boolean] {
  const end = line.replace(/[ \t]+$/, "").length - 1;
  if (line.charAt(end) !== escapeChar || line.charAt(end - 1) === escapeChar) return [line, false];
  return [line.slice(0, end), true];
}

function chomp(line: string): string {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}

interface HeredocOpening {
  readonly name: string;
  readonly expand: boolean;
  readonly stripTabs: boolean;
}

/** The here-documents an instruction announces. Only RUN, COPY and ADD have any, also behind ONBUILD; JSON forms none. */
function heredocOpenings(keyword: string, rest: string, escapeChar: string): HeredocOpening[] {
  if (/^ONBUILD$/i.test(keyword)) return heredocOpenings(...splitKeyword(rest), escapeChar);
  if (!heredocKeywords.test(keyword) || !rest.includes("<<")) return [];
  const words = splitFlags(rest, escapeChar).rest;
  if (Array.isArray(jsonStrings(words))) return [];
  const openings: HeredocOpening[] = [];
  for (const word of splitWords(words, escapeChar)) {
    const opening = heredocOpening(word);
    if (opening !== undefined) openings.push(opening);
  }
  return openings;
}

/** `<<NAME`, `<<-NAME`, `0<<"NAME"`; undefined for any other word. */
export function heredocOpening(word: string): HeredocOpening | undefined {
  const [, dash, written] = /^[0-9]*<<(-?)([^<]+)$/.exec(word) ?? [];
  if (written === undefined) return undefined;
  const name = written.replace(/\\(.)|["']/g, "$1");
  return name === "" ? undefined : { name, expand: name === written, stripTabs: dash === "-" };
}

/** Reads a body that starts at `physical[start]`; undefined when its last line never comes. */
function readHeredoc(physical: readonly string[], start: number, opening: HeredocOpening): Heredoc | undefined {
  for (let i = start; i < physical.length; i++) {
    const line = chomp(physical[i] ?? "");
    if ((opening.stripTabs ? line.replace(/^\t+/, "") : line) !== opening.name) continue;
    const body = physical.slice(start, i);
    return {
      ...opening,
      raw: body.map((text) => `${text}\n`).join(""),
      content: body.map((text) => `${opening.stripTabs ? text.replace(/^\t+/, "") : text}\n`).join(""),
      startLine: start + 1,
      endLine: i + 1,
    };
  }
  return undefined;
}
