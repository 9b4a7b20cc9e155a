/** Content descriptors (OCI image-spec, descriptor.md): what a blob is, its digest, and its exact size. */
import { type Digest, parseDigest } from "./digest.ts";
import { defined, type Fields, type StringMap } from "./fields.ts";
import { type Platform, platformOfFields } from "./platform.ts";

/** The names are the document's own, so that a descriptor is written as it stands. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes of the blob as stored. */
  readonly size: number;
  /** Where foreign content may be had; recorded, never followed. */
  readonly urls?: readonly string[];
  readonly annotations?: StringMap;
  /** The content itself, base64. */
  readonly data?: string;
  readonly artifactType?: string;
  readonly platform?: Platform;
}

const members = ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

/** Reads a descriptor; throws `invalid_argument` for a bad digest, a negative size, a missing or ambiguous member. */
export function descriptorOfFields(fields: Fields): Descriptor {
  fields.refuseCaseVariants(members);
  const platform = fields.fields("platform");
  return defined({
    mediaType: fields.requiredString("mediaType"),
    digest: fields.requiredParsed("digest", parseDigest),
    size: fields.requiredSize("size"),
    urls: fields.strings("urls"),
    annotations: fields.stringMap("annotations"),
    data: fields.string("data"),
    artifactType: fields.string("artifactType"),
    platform: platform === undefined ? undefined : platformOfFields(platform),
  });
}
