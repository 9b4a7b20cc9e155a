/**
 * Content digests and the identities made of them. A digest is `sha256:` and 64 lower-case hexadecimal digits (or
 * `sha512:` and 128) and nothing else, so that a parsed digest is safe as a file name and two equal contents never have
 * two spellings. The four brands keep apart what Docker's own code mixes up:
 *
 *   Digest   of any blob as stored (a compressed layer, a manifest, a config)
 *   DiffId   of a layer's uncompressed tar
 *   ChainId  of a stack of layers: the bottom layer's DiffId, then sha256("<chain of parents> <diff>") for each next
 *   ImageId  of an image's config
 *
 * Source: OCI image-spec, descriptor.md "Digests" and config.md "Layer ChainID".
 */
import { createHash } from "node:crypto";
import { LamellaError } from "../errors/lamella-error.ts";

declare const brand: unique symbol;

export type Digest = string & { readonly [brand]: "Digest" | "DiffId" | "ImageId" };
export type DiffId = string & { readonly [brand]: "DiffId" };
export type ChainId = string & { readonly [brand]: "ChainId" };
export type ImageId = string & { readonly [brand]: "ImageId" };

export type DigestAlgorithm = "sha256" | "sha512";

const digestPattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const sha256Pattern = /^sha256:[0-9a-f]{64}$/;

/** True for a well-formed sha256 or sha512 digest. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && digestPattern.test(value);
}

/** `text` as a digest; throws `invalid_argument` (INVALID_DIGEST) for anything but lower-case sha256 or sha512. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw invalidDigest("digest", text, "sha256:<64 lower-case hex digits> or sha512:<128>");
}

/** `text` as a DiffId (sha256 only); throws `invalid_argument` (INVALID_DIGEST). */
export function parseDiffId(text: string): DiffId {
  if (sha256Pattern.test(text)) return text as DiffId;
  throw invalidDigest("diff ID", text);
}

/** `text` as a ChainId (sha256 only); throws `invalid_argument` (INVALID_DIGEST). */
export function parseChainId(text: string): ChainId {
  if (sha256Pattern.test(text)) return text as ChainId;
  throw invalidDigest("chain ID", text);
}

/** `text` as an ImageId (sha256 only); throws `invalid_argument` (INVALID_DIGEST). */
export function parseImageId(text: string): ImageId {
  if (sha256Pattern.test(text)) return text as ImageId;
  throw invalidDigest("image ID", text);
}

/** The digest of `bytes`, sha256 unless told otherwise. */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = "sha256"): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}` as Digest;
}

/** The ImageId of an image whose config document is exactly `config`. */
export function imageIdOf(config: Uint8Array): ImageId {
  return digestOf(config) as string as ImageId;
}

/** The ChainId of `diff` on top of `parent` (undefined: `diff` is the bottom layer). */
export function chainIdOf(parent: ChainId | undefined, diff: DiffId): ChainId {
  if (parent === undefined) return diff as string as ChainId;
  return digestOf(`${parent} ${diff}`) as string as ChainId;
}

/** The ChainIds of a stack of layers, bottom first; as long as `diffs`. */
export function chainIdsOf(diffs: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = [];
  for (const diff of diffs) chain.push(chainIdOf(chain.at(-1), diff));
  return chain;
}

/** `sha256` or `sha512`. */
export function algorithmOf(digest: Digest | DiffId | ChainId | ImageId): DigestAlgorithm {
  return digest.startsWith("sha512:") ? "sha512" : "sha256";
}

/** The hexadecimal part, without the algorithm: a safe file name. */
export function hexOf(digest: Digest | DiffId | ChainId | ImageId): string {
  return digest.slice(digest.indexOf(":") + 1);
}

function invalidDigest(what: string, text: string, form = "sha256:<64 lower-case hex digits>"): LamellaError {
  const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
  return new LamellaError("invalid_argument", "INVALID_DIGEST", `invalid ${what} ${JSON.stringify(shown)}`, {
    hint: `a ${what} is written ${form}`,
  });
}
