/** Pure types and codecs of OCI and Docker image documents: digests, references, platforms, manifests, configs. */
export * from "./config.ts";
export type { Descriptor } from "./descriptor.ts";
export * from "./digest.ts";
export {
  type Encodable,
  encodeJson,
  type Json,
  type JsonLimits,
  type JsonObject,
  maxDocumentBytes,
  parseJson,
} from "./json.ts";
export * from "./layout.ts";
export * from "./manifest.ts";
export * from "./media-types.ts";
export {
  formatPlatform,
  normalizePlatform,
  type Platform,
  parsePlatform,
  platformDistance,
  platformOfNode,
  samePlatform,
} from "./platform.ts";
export * from "./reference.ts";
