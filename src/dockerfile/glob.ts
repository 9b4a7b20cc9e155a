/**
 * Globs of COPY, ADD and .dockerignore: the syntax of Go's `filepath.Match`, matched against byte-string paths.
 *
 *   *        any text without `/`          ?     one character other than `/`
 *   [a-z]    one of a class                [^a]  one not of it              \x  x itself
 *   **       (.dockerignore only) any number of path components
 *
 * Patterns are text; paths are decoded as UTF-8 before they are compared, so that `?` stands for a character.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";

export type PathMatcher = (path: ByteString) => boolean;

/** True when `pattern` has a wildcard that is not escaped. */
export function hasGlob(pattern: string): boolean {
  return /^(?:[^\\*?[]|\\[\s\S])*[*?[]/.test(pattern);
}

/** `pattern` without its escapes: what it matches when it has no wildcard. */
export function unescapeGlob(pattern: string): string {
  return pattern.replace(/\\([\s\S])/g, "$1");
}

/** True when `pattern` matches all of `path`; throws `invalid_argument` (BAD_PATTERN). */
export function matchGlob(pattern: string, path: ByteString): boolean {
  return compileGlob(pattern)(path);
}

/** A matcher of whole paths; throws `invalid_argument` (BAD_PATTERN). */
export function compileGlob(pattern: string): PathMatcher {
  const regex = new RegExp(`^${globSource(pattern)}$`, "u");
  return (path) => regex.test(textOfBytes(path));
}

/**
 * The source of a regular expression (flag `u`, no anchors) that matches what `pattern` matches. With `doubleStar`, `**`
 * and a slash after it match any number of components, `**` at the end everything, and `**` before plain text alone
 * (`**.go`) any beginning.
 */
export function globSource(pattern: string, options: { readonly doubleStar?: boolean } = {}): string {
  let source = "";
  let at = 0;
  while (at < pattern.length) {
    const c = String.fromCodePoint(pattern.codePointAt(at) ?? 0);
    at += c.length;
    if (c === "*") {
      if (options.doubleStar !== true || pattern.charAt(at) !== "*") {
        source += "[^/]*";
        continue;
      }
      const leading = at === 1;
      at++;
      // Several `**/` in a row are one; each more would only multiply the ways to match.
      while (/^\/\*\*(?:\/|$)/.test(pattern.slice(at))) at += 3;
      const rest = pattern.slice(at);
      const anyText = rest === "" || (leading && /^[^/*?[\]\\][^*?[\]\\]*$/.test(rest));
      source += anyText ? "[\\s\\S]*" : "(?:[\\s\\S]*/)?";
      if (pattern.charAt(at) === "/") at++;
    } else if (c === "?") {
      source += "[^/]";
    } else if (c === "[") {
      const [classSource, end] = classAt(pattern, at);
      source += classSource;
      at = end;
    } else if (c === "\\") {
      const escaped = pattern.codePointAt(at);
      if (escaped === undefined) throw badPattern(pattern, "it ends in a backslash");
      const literal = String.fromCodePoint(escaped);
      at += literal.length;
      source += quoted(literal);
    } else {
      source += quoted(c);
    }
  }
  return source;
}

/** Reads a class after its `[`: its regular expression and the offset behind its `]`. */
function classAt(pattern: string, start: number): [source: string, end: number] {
  let at = start;
  const negated = pattern.charAt(at) === "^";
  if (negated) at++;
  const ranges: string[] = [];
  for (let count = 0; ; count++) {
    if (pattern.charAt(at) === "]" && count > 0) break;
    const [low, afterLow] = classCharacter(pattern, at);
    at = afterLow;
    let high = low;
    if (pattern.charAt(at) === "-") [high, at] = classCharacter(pattern, at + 1);
    // An upside-down range matches nothing.
    if (low <= high) ranges.push(`\\u{${low.toString(16)}}-\\u{${high.toString(16)}}`);
  }
  if (ranges.length === 0) return [negated ? "[\\s\\S]" : "(?!)", at + 1];
  return [`[${negated ? "^" : ""}${ranges.join("")}]`, at + 1];
}

function classCharacter(pattern: string, start: number): [codePoint: number, end: number] {
  const c = pattern.charAt(start);
  const at = c === "\\" ? start + 1 : start;
  const codePoint = pattern.codePointAt(at);
  if (c === "-" || c === "]" || codePoint === undefined) throw badPattern(pattern, "a class [...] is malformed");
  return [codePoint, at + String.fromCodePoint(codePoint).length];
}

function quoted(c: string): string {
  return /[\^$.*+?()[\]{}|/\\]/.test(c) ? `\\${c}` : c;
}

function badPattern(pattern: string, problem: string): LamellaError {
  return new LamellaError(
    "invalid_argument",
    "BAD_PATTERN",
    `bad pattern ${JSON.stringify(pattern.slice(0, 200))}: ${problem}`,
  );
}
