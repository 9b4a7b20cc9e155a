/**
 * `.dockerignore`: which paths of a build context stay out. One pattern a line, `#` comments, `!` exceptions; patterns
 * are anchored at the context's root, a leading or trailing slash means nothing, `**` is any number of components. A
 * pattern that matches a directory matches all beneath it. The last pattern that matches a path decides.
 *
 * Runs of patterns of one polarity become one regular expression, so that a path costs a few tests, not one a pattern.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { globSource, hasGlob, unescapeGlob } from "./glob.ts";

export interface IgnorePattern {
  /** Cleaned; without the `!`. */
  readonly pattern: string;
  readonly exception: boolean;
  readonly line: number;
}

/** Answers for paths relative to the context, without leading slash or `./`. */
export interface IgnoreMatcher {
  readonly patterns: readonly IgnorePattern[];
  /** True when the path is ignored, by itself or through a directory above it. */
  matches(path: ByteString): boolean;
  /** False when nothing beneath the ignored directory `dir` can be an exception: a walk may skip it. */
  mayContainExceptions(dir: ByteString): boolean;
}

/** Reads a `.dockerignore`; throws `invalid_argument` (BAD_PATTERN) with the line. */
export function parseIgnore(text: string, options: { readonly fileName?: string } = {}): IgnoreMatcher {
  const { fileName = ".dockerignore" } = options;
  const patterns: IgnorePattern[] = [];
  for (const [i, raw] of text
    .replace(/^\ufeff/, "")
    .split("\n")
    .entries()) {
    if (raw.startsWith("#")) continue;
    const written = raw.trim();
    if (written === "") continue;
    const exception = written.startsWith("!");
    const pattern = cleanPattern(exception ? written.slice(1).trim() : written);
    if (exception && pattern === "") throw badLine(fileName, i + 1, 'an exception "!" needs a pattern');
    // "." would be everything; Docker gives it no meaning.
    if (pattern === "." || pattern === "") continue;
    patterns.push({ pattern, exception, line: i + 1 });
  }
  return compileIgnore(patterns, fileName);
}

function compileIgnore(patterns: readonly IgnorePattern[], fileName: string): IgnoreMatcher {
  const runs: { exception: boolean; sources: string[] }[] = [];
  for (const { pattern, exception, line } of patterns) {
    let source: string;
    try {
      source = globSource(pattern, { doubleStar: true });
    } catch (error) {
      if (!(error instanceof LamellaError)) throw error;
      throw badLine(fileName, line, error.message, error);
    }
    const run = runs.at(-1);
    if (run?.exception === exception) run.sources.push(source);
    else runs.push({ exception, sources: [source] });
  }
  // Ending at a slash as well as at the end makes a pattern match what lies beneath.
  const tests = runs.map(({ exception, sources }) => ({
    exception,
    regex: new RegExp(`^(?:${sources.join("|")})(?:/|$)`, "u"),
  }));
  const beneath = patterns.filter(({ exception }) => exception).map(({ pattern }) => beneathOf(pattern));

  return {
    patterns,
    matches(path) {
      const text = textOfBytes(path);
      let ignored = false;
      for (const { exception, regex } of tests) {
        // Only a change of mind is worth a test.
        if (exception === ignored && regex.test(text)) ignored = !exception;
      }
      return ignored;
    },
    mayContainExceptions(dir) {
      const components = textOfBytes(dir).split("/");
      return beneath.some((mayMatch) => mayMatch(components));
    },
  };
}

/** Whether `pattern` can match a path beneath a directory, given by its components. */
function beneathOf(pattern: string): (dir: readonly string[]) => boolean {
  // A class may match a slash: then components say nothing.
  if (pattern.includes("[")) return () => true;
  const parts = pattern.split("/").map((part) => {
    if (part.includes("**")) return undefined;
    if (!hasGlob(part)) {
      const literal = unescapeGlob(part);
      return (name: string) => name === literal;
    }
    const regex = new RegExp(`^${globSource(part)}$`, "u");
    return (name: string) => regex.test(name);
  });
  return (dir) => {
    for (const [i, name] of dir.entries()) {
      if (i >= parts.length) return false;
      const part = parts[i];
      if (part === undefined) return true;
      if (!part(name)) return false;
    }
    return parts.length > dir.length;
  };
}

/** Lexically shortest form: no `.`, no doubled or outer slashes, `..` resolved. */
function cleanPattern(pattern: string): string {
  const parts: string[] = [];
  for (const part of pattern.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === ".." && parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (part !== ".." || !pattern.startsWith("/")) parts.push(part);
  }
  return parts.join("/") || (pattern === "" ? "" : ".");
}

function badLine(fileName: string, line: number, problem: string, cause?: unknown): LamellaError {
  return new LamellaError("invalid_argument", "BAD_PATTERN", `${fileName}:${line}: ${problem}`, { cause });
}
