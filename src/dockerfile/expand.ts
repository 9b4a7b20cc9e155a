/**
 * Variable expansion and quote removal, as Docker's word lexer does it:
 *
 *   $v ${v}              the value, "" when unset
 *   ${v:-w} ${v-w}       w when v is unset (with the colon: or empty)
 *   ${v:+w} ${v+w}       w when v is set (with the colon: and not empty), else ""
 *   ${v:?w} ${v?w}       fails with the message w when v is unset (with the colon: or empty)
 *   ${v#p} ${v##p}       without the shortest (longest) beginning that matches p
 *   ${v%p} ${v%%p}       without the shortest (longest) end that matches p
 *   ${v/p/r} ${v//p/r}   the first match (every match) of p replaced by r
 *
 * w, p and r are words themselves, expanded in turn. In patterns `*` is any text, `?` any one character, brackets are
 * ordinary. Single quotes keep everything; in double quotes `$` expands and the escape character works before `"`, `$`
 * and itself; elsewhere it makes the next character ordinary.
 */
import { LamellaError } from "../errors/lamella-error.ts";

/** Looks a variable up; undefined when it is unset. */
export type VariableLookup = (name: string) => string | undefined;

export interface ExpandOptions {
  /** The escape character; default `\`. */
  readonly escape?: "\\" | "`";
  /** Keep quotes as ordinary characters: for the bodies of here-documents. */
  readonly keepQuotes?: boolean;
}

/** Deepest nesting of `${…${…}}` that is followed. */
const maxDepth = 100;

/** `word` expanded, as one word. Throws `invalid_argument` (BAD_SUBSTITUTION or UNSET_VARIABLE). */
export function expand(word: string, lookup: VariableLookup, options: ExpandOptions = {}): string {
  return new Lexer(word, lookup, options).run().text;
}

/** `word` expanded and split at the white space outside quotes, also at that inside expanded values. */
export function expandWords(word: string, lookup: VariableLookup, options: ExpandOptions = {}): string[] {
  return new Lexer(word, lookup, options).run().words;
}

/** The variables `word` mentions, in order, each once. */
export function variablesOf(word: string, options: ExpandOptions = {}): string[] {
  const names = new Set<string>();
  new Lexer(word, () => undefined, options, names).run();
  return [...names];
}

/** Collects text twice: as it is, and split into words. */
class Output {
  text = "";
  readonly words: string[] = [];
  #word = "";

  /** Text in which white space separates words. */
  add(text: string): void {
    this.text += text;
    for (const c of text) {
      if (/\s/.test(c)) this.#end();
      else this.#word += c;
    }
  }

  /** Quoted or escaped text. */
  addLiteral(text: string): void {
    this.text += text;
    this.#word += text;
  }

  finish(): { text: string; words: string[] } {
    this.#end();
    return { text: this.text, words: this.words };
  }

  #end(): void {
    if (this.#word !== "") this.words.push(this.#word);
    this.#word = "";
  }
}

class Lexer {
  readonly #text: string;
  readonly #lookup: VariableLookup;
  readonly #escape: string;
  readonly #keepQuotes: boolean;
  readonly #names: Set<string> | undefined;
  #at = 0;
  #depth = 0;

  constructor(text: string, lookup: VariableLookup, options: ExpandOptions, names?: Set<string>) {
    this.#text = text;
    this.#lookup = lookup;
    this.#escape = options.escape ?? "\\";
    this.#keepQuotes = options.keepQuotes ?? false;
    this.#names = names;
  }

  run(): { text: string; words: string[] } {
    return this.#until("", false);
  }

  /** Reads up to `stop` (and past it), or to the end when it is "". `keepEscapes`: for patterns. */
  #until(stop: string, keepEscapes: boolean): { text: string; words: string[] } {
    if (++this.#depth > maxDepth) throw this.#error(`nested deeper than ${maxDepth}`);
    const output = new Output();
    for (;;) {
      const c = this.#text.charAt(this.#at);
      if (c === "") {
        if (stop !== "") throw this.#error(`unexpected end while looking for ${stop}`);
        break;
      }
      if (c === stop) {
        this.#at++;
        break;
      }
      if (c === "$") {
        output.add(this.#dollar());
      } else if (c === "'" && !this.#keepQuotes) {
        output.addLiteral(this.#singleQuoted());
      } else if (c === '"' && !this.#keepQuotes) {
        output.addLiteral(this.#doubleQuoted());
      } else if (c === this.#escape) {
        this.#at++;
        const next = this.#take();
        // An escape at the very end stands for nothing.
        if (next !== "") output.addLiteral(keepEscapes ? `\\${next}` : next);
      } else {
        output.add(this.#take());
      }
    }
    this.#depth--;
    return output.finish();
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at + 1);
    if (end < 0) throw this.#error("unexpected end while looking for the matching single quote");
    const quoted = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return quoted;
  }

  #doubleQuoted(): string {
    this.#at++;
    let quoted = "";
    for (;;) {
      const c = this.#text.charAt(this.#at);
      if (c === "") throw this.#error("unexpected end while looking for the matching double quote");
      if (c === "$") {
        quoted += this.#dollar();
        continue;
      }
      this.#at++;
      if (c === '"') return quoted;
      const next = this.#text.charAt(this.#at);
      const escapes = c === this.#escape && (next === '"' || next === "$" || next === this.#escape);
      quoted += escapes ? this.#take() : c;
    }
  }

  /** Reads `$…` and answers its value. */
  #dollar(): string {
    this.#at++;
    if (this.#text.charAt(this.#at) !== "{") {
      const name = this.#name();
      return name === "" ? "$" : (this.#value(name) ?? "");
    }
    this.#at++;
    const name = this.#name();
    if (name === "") throw this.#error("bad substitution");
    let operator = this.#take();
    if (operator === "}") return this.#value(name) ?? "";
    const emptyIsUnset = operator === ":";
    if (emptyIsUnset) operator = this.#take();
    if (operator === "-" || operator === "+" || operator === "?") return this.#choose(name, operator, emptyIsUnset);
    if (!emptyIsUnset && (operator === "#" || operator === "%")) return this.#trim(name, operator);
    if (!emptyIsUnset && operator === "/") return this.#replace(name);
    if (operator === "") throw this.#error("missing '}'");
    throw this.#error(`unsupported modifier ${emptyIsUnset ? ":" : ""}${operator}`);
  }

  #choose(name: string, operator: "-" | "+" | "?", emptyIsUnset: boolean): string {
    const word = this.#until("}", false).text;
    const value = this.#value(name);
    const unset = value === undefined || (emptyIsUnset && value === "");
    if (operator === "-") return unset ? word : value;
    if (operator === "+") return unset ? "" : word;
    if (!unset || this.#names !== undefined) return value ?? "";
    const why = word || `is not allowed to be ${value === undefined ? "unset" : "empty"}`;
    throw new LamellaError("invalid_argument", "UNSET_VARIABLE", `${name}: ${why}`);
  }

  #trim(name: string, operator: "#" | "%"): string {
    const longest = this.#text.charAt(this.#at) === operator;
    if (longest) this.#at++;
    const pattern = this.#until("}", true).text;
    const value = this.#value(name) ?? "";
    const star = longest ? "[\\s\\S]*" : "[\\s\\S]*?";
    if (operator === "#") return value.replace(new RegExp(`^${patternSource(pattern, star)}`, "u"), "");
    // A regular expression prefers the leftmost match, which is the longest end: for the shortest, search from behind.
    const whole = new RegExp(`^${patternSource(pattern, "[\\s\\S]*")}$`, "u");
    const starts = [0];
    for (const c of value) starts.push((starts.at(-1) ?? 0) + c.length);
    if (!longest) starts.reverse();
    const start = starts.find((at) => whole.test(value.slice(at)));
    return start === undefined ? value : value.slice(0, start);
  }

  #replace(name: string): string {
    const all = this.#text.charAt(this.#at) === "/";
    if (all) this.#at++;
    const pattern = this.#until("/", true).text;
    const replacement = this.#until("}", false).text;
    const value = this.#value(name);
    if (value === undefined || pattern === "") return value ?? "";
    const regex = new RegExp(patternSource(pattern, "[\\s\\S]*"), all ? "gu" : "u");
    // `*` must not match once more, the nothing behind what it has just matched.
    return value.replace(regex, (match) => (match === "" && value !== "" ? "" : replacement));
  }

  #value(name: string): string | undefined {
    this.#names?.add(name);
    return this.#lookup(name);
  }

  /** Letters, digits and `_`; digits alone (a positional parameter); or one special parameter. "" when there is none. */
  #name(): string {
    const pattern = /[0-9]+|[@*#?\-$!]|[\p{L}_][\p{L}\p{Nd}_]*/uy;
    pattern.lastIndex = this.#at;
    const name = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += name.length;
    return name;
  }

  /** The next character (a code point), "" at the end. */
  #take(): string {
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) return "";
    const c = String.fromCodePoint(code);
    this.#at += c.length;
    return c;
  }

  #error(problem: string): LamellaError {
    return new LamellaError(
      "invalid_argument",
      "BAD_SUBSTITUTION",
      `${problem} in ${JSON.stringify(this.#text.slice(0, 200))}`,
    );
  }
}

/** The regular expression of a shell pattern: `*` as `star`, `?` one character, `\x` and all others themselves. */
function patternSource(pattern: string, star: string): string {
  return pattern.replace(/\\([\s\S])|\*+|\?|[\^$.+()[\]{}|/\\]/gu, (match, escaped?: string) => {
    if (escaped !== undefined) return literal(escaped);
    if (match.startsWith("*")) return star;
    return match === "?" ? "[\\s\\S]" : literal(match);
  });
}

function literal(c: string): string {
  return /[\^$.*+?()[\]{}|/\\]/.test(c) ? `\\${c}` : c;
}
