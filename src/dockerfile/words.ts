/** Splitting the rest of an instruction into words and flags, as Docker's parser does before anything is expanded. */

/** Splits at white space outside quotes; quotes and escapes stay in the words, an unclosed quote runs to the end. */
export function splitWords(text: string, escapeChar: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (quote === "" && isSpace(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word ??= "";
    if (c === escapeChar && quote !== "'") {
      // An escape at the very end of the instruction stands for nothing.
      if (i + 1 < text.length) word += c + text.charAt(++i);
      continue;
    }
    if (quote === "" ? c === "'" || c === '"' : c === quote) quote = quote === "" ? c : "";
    word += c;
  }
  if (word !== undefined && word !== "") words.push(word);
  return words;
}

export interface Flag {
  readonly name: string;
  /** Undefined for a flag without `=`. */
  readonly value: string | undefined;
}

/** Takes the leading `--name[=value]` words off `text`; quotes and escapes inside them are resolved. `--` ends them. */
export function splitFlags(text: string, escapeChar: string): { flags: Flag[]; rest: string } {
  const flags: Flag[] = [];
  let i = 0;
  for (;;) {
    while (isSpace(text.charAt(i))) i++;
    if (!text.startsWith("--", i)) break;
    let word = "";
    let quote = "";
    for (; i < text.length; i++) {
      let c = text.charAt(i);
      if (quote === "" && isSpace(c)) break;
      if (quote === "" ? c === "'" || c === '"' : c === quote) {
        quote = quote === "" ? c : "";
        continue;
      }
      if (c === escapeChar && quote !== "'") c = text.charAt(++i);
      word += c;
    }
    if (word === "--") break;
    const equals = word.indexOf("=");
    flags.push(
      equals < 0
        ? { name: word.slice(2), value: undefined }
        : { name: word.slice(2, equals), value: word.slice(equals + 1) },
    );
  }
  return { flags, rest: text.slice(i).trim() };
}

/**
 * A JSON array of strings; undefined when `text` is no JSON array (then it is for the shell), "not-strings" when it is
 * one that holds something else.
 */
export function jsonStrings(text: string): readonly string[] | "not-strings" | undefined {
  if (!text.startsWith("[")) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  return value.every((item) => typeof item === "string") ? value : "not-strings";
}

/** White space to Docker's parser. */
function isSpace(c: string): boolean {
  return c !== "" && /^\s$/.test(c);
}
