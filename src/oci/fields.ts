/**
 * Typed reading of parsed JSON objects: each accessor answers a member of the wanted type, undefined when it is absent or
 * null (Go's encoder writes null for an empty slice or map), or throws `invalid_argument` (INVALID_DOCUMENT) naming the
 * member by its path.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import type { Json, JsonObject } from "./json.ts";

export type StringMap = Readonly<Record<string, string>>;

/** The error for a document that is JSON but not what it should be. */
export function invalidDocument(path: string, problem: string, hint?: string): LamellaError {
  return new LamellaError("invalid_argument", "INVALID_DOCUMENT", `${path}: ${problem}`, { hint });
}

/** `value` as an object whose members are read through {@link Fields}. */
export function fieldsOf(value: Json, path: string): Fields {
  if (!isObject(value)) throw invalidDocument(path, "expected an object");
  return new Fields(value, path);
}

/** `value` as an array; null counts as empty. */
export function itemsOf(value: Json, path: string): readonly Json[] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw invalidDocument(path, "expected an array");
  return value;
}

export class Fields {
  readonly object: JsonObject;
  readonly path: string;

  constructor(object: JsonObject, path: string) {
    this.object = object;
    this.path = path;
  }

  /** True when the member is there and not null. */
  has(key: string): boolean {
    return this.#member(key) !== undefined;
  }

  /**
   * Refuses keys that equal one of `names` but for their case: Go's decoder takes them for that member, others do not,
   * and two readers of one digest must not see two documents.
   */
  refuseCaseVariants(names: readonly string[]): void {
    const exact = new Set(names);
    const folded = new Set(names.map((name) => name.toLowerCase()));
    for (const key of Object.keys(this.object)) {
      if (!exact.has(key) && folded.has(key.toLowerCase())) {
        throw invalidDocument(this.path, `ambiguous key ${JSON.stringify(key)}`);
      }
    }
  }

  string(key: string): string | undefined {
    const value = this.#member(key);
    if (value === undefined || typeof value === "string") return value;
    throw this.#wrong(key, "a string");
  }

  requiredString(key: string): string {
    return this.string(key) ?? this.#missing(key);
  }

  boolean(key: string): boolean | undefined {
    const value = this.#member(key);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.#wrong(key, "true or false");
  }

  /** An integer that JavaScript holds exactly. */
  integer(key: string): number | undefined {
    const value = this.#member(key);
    if (value === undefined || Number.isSafeInteger(value)) return value as number | undefined;
    throw this.#wrong(key, "an integer");
  }

  /** A size in bytes: an integer from 0 to 2^53 − 1. */
  requiredSize(key: string): number {
    const value = this.integer(key) ?? this.#missing(key);
    if (value < 0) throw this.#wrong(key, "a size, not a negative number");
    return value;
  }

  strings(key: string): readonly string[] | undefined {
    const value = this.#member(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw this.#wrong(key, "an array of strings");
    }
    return value;
  }

  stringMap(key: string): StringMap | undefined {
    const value = this.#member(key);
    if (value === undefined) return undefined;
    if (!isObject(value) || !Object.values(value).every((item) => typeof item === "string")) {
      throw this.#wrong(key, "an object of strings");
    }
    return value as StringMap;
  }

  /** The keys of an object used as a set (`{"80/tcp": {}}`), in the document's order. */
  keySet(key: string): readonly string[] | undefined {
    const value = this.#member(key);
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.#wrong(key, "an object");
    return Object.keys(value);
  }

  jsonObject(key: string): JsonObject | undefined {
    const value = this.#member(key);
    if (value === undefined || isObject(value)) return value;
    throw this.#wrong(key, "an object");
  }

  fields(key: string): Fields | undefined {
    const value = this.#member(key);
    return value === undefined ? undefined : fieldsOf(value, `${this.path}.${key}`);
  }

  requiredFields(key: string): Fields {
    return this.fields(key) ?? this.#missing(key);
  }

  /** The items of an array of objects. */
  list(key: string): readonly Fields[] | undefined {
    const value = this.#member(key);
    if (value === undefined) return undefined;
    const path = `${this.path}.${key}`;
    return itemsOf(value, path).map((item, i) => fieldsOf(item, `${path}[${i}]`));
  }

  requiredList(key: string): readonly Fields[] {
    return this.list(key) ?? this.#missing(key);
  }

  /** Runs `parse` on a string member, naming the member in the error it throws. */
  parsed<T>(key: string, parse: (text: string) => T): T | undefined {
    const text = this.string(key);
    if (text === undefined) return undefined;
    try {
      return parse(text);
    } catch (cause) {
      if (!(cause instanceof LamellaError)) throw cause;
      throw new LamellaError(cause.kind, cause.code, `${this.path}.${key}: ${cause.message}`, {
        hint: cause.hint,
        cause,
      });
    }
  }

  requiredParsed<T>(key: string, parse: (text: string) => T): T {
    return this.parsed(key, parse) ?? this.#missing(key);
  }

  #member(key: string): Json | undefined {
    return this.object[key] ?? undefined;
  }

  #wrong(key: string, wanted: string): LamellaError {
    return invalidDocument(`${this.path}.${key}`, `expected ${wanted}`);
  }

  #missing(key: string): never {
    throw invalidDocument(`${this.path}.${key}`, "missing");
  }
}

/** `object` without the members that are undefined, typed so that the rest are optional members. */
export function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  for (const key of Object.keys(object) as (keyof T)[]) {
    if (object[key] === undefined) delete object[key];
  }
  return object as { [K in keyof T]: Exclude<T[K], undefined> };
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
