/**
 * Image references: `[domain/]path[:tag][@digest]`, Docker's grammar. Names are local: nothing is prefixed to a name
 * that has no domain, and a name with none is printed as it was written. A first component is a domain when it holds a
 * dot or a colon, or is `localhost`. A reference without tag and digest gets the tag `latest`.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type Digest, parseDigest } from "./digest.ts";

export interface Reference {
  /** `domain/path`, or the path alone. */
  readonly name: string;
  readonly domain?: string;
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** The tag of a reference that names none. */
export const defaultTag = "latest";

const maxNameLength = 255;
const pathComponent = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const domainComponent = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const domainPattern = new RegExp(
  `^(?:${domainComponent}(?:\\.${domainComponent})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?$`,
);
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** Parses a reference; throws `invalid_argument` (INVALID_REFERENCE or INVALID_DIGEST). */
export function parseReference(text: string): Reference {
  if (text.length > 1024) throw invalidReference(text, "it is too long");
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : parseDigest(text.slice(at + 1));
  const nameAndTag = at < 0 ? text : text.slice(0, at);

  // A colon before the last slash is a port's.
  const colon = nameAndTag.indexOf(":", nameAndTag.lastIndexOf("/") + 1);
  const name = colon < 0 ? nameAndTag : nameAndTag.slice(0, colon);
  let tag = colon < 0 ? undefined : nameAndTag.slice(colon + 1);
  if (tag !== undefined && !isTag(tag)) throw invalidReference(text, `${JSON.stringify(tag)} is no tag`);
  if (tag === undefined && digest === undefined) tag = defaultTag;

  return {
    ...parseName(name, text),
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** True for a valid tag: 1 to 128 of letters, digits, `_`, `.`, `-`, not starting with `.` or `-`. */
export function isTag(text: string): boolean {
  return tagPattern.test(text);
}

/** `name[:tag][@digest]`. */
export function formatReference(reference: Reference): string {
  const { name, tag, digest } = reference;
  return `${name}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

function parseName(name: string, text: string): Pick<Reference, "name" | "domain" | "path"> {
  if (name === "") throw invalidReference(text, "it has no name");
  if (name.length > maxNameLength) throw invalidReference(text, `its name is longer than ${maxNameLength} characters`);
  if (/^[0-9a-f]{64}$/.test(name)) throw invalidReference(text, "64 hexadecimal digits are an image ID, not a name");

  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(slash, 0));
  const hasDomain = slash >= 0 && (/[.:]/.test(first) || first === "localhost");
  const path = hasDomain ? name.slice(slash + 1) : name;
  if (hasDomain && !domainPattern.test(first)) throw invalidReference(text, `${JSON.stringify(first)} is no host name`);
  for (const component of path.split("/")) {
    if (pathComponent.test(component)) continue;
    const lower = component.toLowerCase();
    if (pathComponent.test(lower)) {
      throw invalidReference(text, "names are lower case", `write ${text.replace(component, lower)}`);
    }
    throw invalidReference(text, `${JSON.stringify(component)} is no part of a name`);
  }
  return hasDomain ? { name, domain: first, path } : { name, path };
}

function invalidReference(text: string, problem: string, hint?: string): LamellaError {
  const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
  return new LamellaError(
    "invalid_argument",
    "INVALID_REFERENCE",
    `invalid image reference ${JSON.stringify(shown)}: ${problem}`,
    { hint: hint ?? "write [host/]name[:tag][@digest], for example hello or team/app:1.2" },
  );
}
