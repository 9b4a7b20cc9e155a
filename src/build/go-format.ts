/** Text as Go's fmt prints it, for the history lines Docker writes with it. */

const escapes: Readonly<Record<string, string>> = {
  "\x07": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  "\\": "\\\\",
};

function escaped(c: string, quote: string): string {
  const known = escapes[c];
  if (known !== undefined) return known;
  if (c === quote) return `\\${c}`;
  const code = c.codePointAt(0) ?? 0;
  if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, "0")}`;
  return c;
}

/** `%q` of a string. */
export function goQuote(text: string): string {
  return `"${[...text].map((c) => escaped(c, '"')).join("")}"`;
}

/** `%q` of a slice of strings: `["a" "b"]`. */
export function goQuoteList(list: readonly string[]): string {
  return `[${list.map(goQuote).join(" ")}]`;
}

/** `%q` of a number: the character of that code point. */
export function goQuoteRune(code: number): string {
  return `'${escaped(String.fromCodePoint(code), "'")}'`;
}

/** A duration as Go writes it: `1h2m3.5s`, `250ms`, `0s`. */
export function goDuration(ns: number): string {
  if (ns === 0) return "0s";
  if (ns < 1e3) return `${ns}ns`;
  if (ns < 1e6) return `${ns / 1e3}µs`;
  if (ns < 1e9) return `${ns / 1e6}ms`;
  const seconds = (ns % 60e9) / 1e9;
  const minutes = Math.floor(ns / 60e9);
  if (minutes === 0) return `${seconds}s`;
  return minutes < 60 ? `${minutes}m${seconds}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}s`;
}
