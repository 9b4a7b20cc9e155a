/** What an archive of any format says about one image it holds. */
import type { ImageConfig } from "../oci/config.ts";
import type { DiffId, Digest } from "../oci/digest.ts";
import type { FilePart } from "./archive-source.ts";

export interface ArchivedLayer {
  readonly diffId: DiffId;
  readonly part: FilePart;
  /** For messages: the archive and the member. */
  readonly what: string;
  /** Digest of the part as stored; undefined where the format has none. Its size has been checked. */
  readonly digest: Digest | undefined;
}

export interface ArchivedImage {
  readonly configBytes: Buffer;
  readonly config: ImageConfig;
  /** The base first. */
  readonly layers: readonly ArchivedLayer[];
  /** References as the archive has them. */
  readonly tags: readonly string[];
}

/**
 * A name as people write it. Docker's tools write an official image's name out in full, with a registry and `library/`
 * before it; both go without saying.
 */
export function familiarName(name: string): string {
  return name.replace(/^[^/]+\.[^/]+\/library\//, "");
}
