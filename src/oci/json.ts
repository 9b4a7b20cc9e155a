/**
 * A strict JSON reader for documents of unknown origin, and a writer that gives the bytes Go's `encoding/json` gives.
 *
 * The reader bounds size and nesting before it builds anything, and refuses what different readers understand
 * differently: duplicate keys, bytes that are not UTF-8, lone surrogates, a byte order mark, text after the value. Its
 * objects have no prototype, so that `__proto__` and `constructor` are keys like any other.
 */
import { LamellaError } from "../errors/lamella-error.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

export interface JsonLimits {
  /** Largest accepted document; default 4 MiB. */
  readonly maxBytes?: number;
  /** Deepest accepted nesting of arrays and objects; default 64. */
  readonly maxDepth?: number;
  /** What the document is, for error messages; default "JSON document". */
  readonly what?: string;
}

/** Largest manifest, index or config that is read: 4 MiB, the limit registries use. */
export const maxDocumentBytes = 4 * 1024 * 1024;

/** Parses one JSON value; throws `invalid_argument` (INVALID_JSON), or `resource_exhausted` (JSON_TOO_LARGE). */
export function parseJson(bytes: Uint8Array, limits: JsonLimits = {}): Json {
  const { maxBytes = maxDocumentBytes, maxDepth = 64, what = "JSON document" } = limits;
  if (bytes.length > maxBytes) {
    throw new LamellaError(
      "resource_exhausted",
      "JSON_TOO_LARGE",
      `${what}: ${bytes.length} bytes, more than the limit of ${maxBytes}`,
    );
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new LamellaError("invalid_argument", "INVALID_JSON", `${what}: not UTF-8`, { cause });
  }
  return new Reader(text, maxDepth, what).document();
}

const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
/** A string without its closing quote; JSON.parse decodes the escapes this pattern has checked. */
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const words = { t: ["true", true], f: ["false", false], n: ["null", null] } as const;

class Reader {
  readonly #text: string;
  readonly #maxDepth: number;
  readonly #what: string;
  #at = 0;

  constructor(text: string, maxDepth: number, what: string) {
    this.#text = text;
    this.#maxDepth = maxDepth;
    this.#what = what;
  }

  document(): Json {
    const value = this.#value(0);
    if (this.#peek() !== "") throw this.#error("text after the end of the document");
    return value;
  }

  #value(depth: number): Json {
    const c = this.#peek();
    if (c === "{" || c === "[") {
      if (depth >= this.#maxDepth) throw this.#error(`nested deeper than ${this.#maxDepth}`);
      this.#at++;
      return c === "{" ? this.#object(depth + 1) : this.#array(depth + 1);
    }
    if (c === '"') return this.#string();
    if (c === "t" || c === "f" || c === "n") {
      const [word, value] = words[c];
      if (!this.#text.startsWith(word, this.#at)) throw this.#error("unknown word");
      this.#at += word.length;
      return value;
    }
    const digits = this.#match(number);
    if (digits === undefined) throw this.#error(c === "" ? "unexpected end" : `unexpected ${JSON.stringify(c)}`);
    return Number(digits);
  }

  #object(depth: number): JsonObject {
    const object: Record<string, Json> = Object.create(null);
    if (this.#skip("}")) return object;
    do {
      if (this.#peek() !== '"') throw this.#error("expected a key");
      const key = this.#string();
      if (key in object) throw this.#error(`duplicate key ${JSON.stringify(key)}`);
      if (!this.#skip(":")) throw this.#error("expected ':'");
      object[key] = this.#value(depth);
    } while (this.#skip(","));
    if (!this.#skip("}")) throw this.#error("expected ',' or '}'");
    return object;
  }

  #array(depth: number): Json[] {
    const array: Json[] = [];
    if (this.#skip("]")) return array;
    do array.push(this.#value(depth));
    while (this.#skip(","));
    if (!this.#skip("]")) throw this.#error("expected ',' or ']'");
    return array;
  }

  #string(): string {
    const raw = this.#match(string);
    if (raw === undefined) throw this.#error("malformed string");
    const value: string = raw.includes("\\") ? JSON.parse(raw) : raw.slice(1, -1);
    if (!value.isWellFormed()) throw this.#error("lone surrogate in a string");
    return value;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** The next character that is not white space, "" at the end. */
  #peek(): string {
    for (;;) {
      const c = this.#text.charAt(this.#at);
      if (c !== " " && c !== "\n" && c !== "\r" && c !== "\t") return c;
      this.#at++;
    }
  }

  #skip(c: string): boolean {
    if (this.#peek() !== c) return false;
    this.#at++;
    return true;
  }

  #error(problem: string): LamellaError {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    return new LamellaError("invalid_argument", "INVALID_JSON", `${this.#what}: ${problem} (line ${line})`);
  }
}

/** What {@link encodeJson} writes. A Map keeps its order, which an object does not for keys that look like integers. */
export type Encodable =
  | null
  | boolean
  | number
  | string
  | readonly Encodable[]
  | ReadonlyMap<string, Encodable>
  | { readonly [key: string]: Encodable | undefined };

/**
 * `value` as compact JSON in UTF-8 with the escapes Go's encoder writes: `<`, `>`, `&`, U+2028 and U+2029 as `\uXXXX`.
 * Members keep their order; those that are undefined are left out.
 */
export function encodeJson(value: Encodable): Buffer {
  return Buffer.from(encoded(value), "utf8");
}

/** `object` as a Map whose keys are in byte order, which is how Go writes maps. */
export function sortedMap<T extends Encodable>(object: Readonly<Record<string, T>>): ReadonlyMap<string, T> {
  return new Map(Object.entries(object).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
}

function encoded(value: Encodable): string {
  if (typeof value === "string") return encodedString(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(encoded).join(",")}]`;
  const members: string[] = [];
  for (const [key, member] of value instanceof Map ? value : Object.entries(value)) {
    if (member !== undefined) members.push(`${encodedString(key)}:${encoded(member)}`);
  }
  return `{${members.join(",")}}`;
}

function encodedString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
