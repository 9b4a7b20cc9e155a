import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { digestOf } from "./digest.ts";
import {
  encodeImageIndex,
  encodeManifest,
  manifestOf,
  parseImageDocument,
  parseImageIndex,
  parseManifest,
} from "./manifest.ts";
import { layerKindOf, mediaTypes } from "./media-types.ts";

const digest = digestOf("x");
const descriptor = { mediaType: mediaTypes.ociLayerGzip, digest, size: 10 };
const config = { mediaType: mediaTypes.ociConfig, digest, size: 2 };
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const invalid = (error: unknown) => isLamellaError(error, "invalid_argument");
const plain = (value: unknown) => JSON.parse(JSON.stringify(value));

test("manifests and indexes survive encoding and parsing", () => {
  for (const kind of ["oci", "docker"] as const) {
    const manifest = manifestOf(kind, config, [descriptor, { ...descriptor, annotations: { b: "1", a: "<" } }]);
    const encoded = encodeManifest(manifest);
    assert.deepEqual(plain(parseManifest(encoded, manifest.mediaType)), manifest);
    assert.deepEqual(encodeManifest(parseManifest(encoded)), encoded);
  }
  const platform = { architecture: "arm", os: "linux", "os.features": ["x"], variant: "v7" };
  const index = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: [{ mediaType: mediaTypes.ociManifest, digest, size: 3, platform }],
    annotations: { a: "b" },
  } as const;
  const encoded = encodeImageIndex(index);
  assert.deepEqual(plain(parseImageIndex(encoded)), index);
  assert.equal(parseImageDocument(encoded).kind, "index");
});

test("an OCI document may leave its media type out", () => {
  assert.equal(parseImageDocument(bytes({ schemaVersion: 2, config, layers: [] })).kind, "manifest");
  assert.equal(parseImageDocument(bytes({ schemaVersion: 2, manifests: [] }), mediaTypes.ociIndex).kind, "index");
});

test("H44 a manifest that is also an index is refused (CVE-2021-41190)", () => {
  const both = { schemaVersion: 2, config, layers: [], manifests: [] };
  assert.throws(() => parseImageDocument(bytes(both)), /both a manifest and an index/);
  assert.throws(() => parseImageDocument(bytes({ schemaVersion: 2, layers: [descriptor], manifests: [] })), invalid);
  assert.throws(
    () => parseImageDocument(bytes({ schemaVersion: 2, config, layers: [], Manifests: [] })),
    /ambiguous key/,
  );
  const manifest = { schemaVersion: 2, config, layers: [] };
  assert.throws(() => parseImageDocument(bytes(manifest), mediaTypes.ociIndex), invalid);
  assert.throws(() => parseImageDocument(bytes({ ...manifest, mediaType: mediaTypes.ociIndex })), invalid);
  assert.throws(
    () => parseImageDocument(bytes({ ...manifest, mediaType: mediaTypes.ociManifest }), mediaTypes.dockerManifest),
    /was announced as/,
  );
  assert.throws(() => parseManifest(bytes({ schemaVersion: 2, manifests: [] })), invalid);
  assert.throws(() => parseImageIndex(bytes(manifest)), invalid);
});

test("H41, H42 bad digests and sizes in descriptors are refused, naming the place", () => {
  const withLayer = (layer: unknown) => bytes({ schemaVersion: 2, config, layers: [descriptor, layer] });
  for (const size of [-1, 1.5, 2 ** 53, "10", null]) {
    assert.throws(() => parseManifest(withLayer({ ...descriptor, size })), /manifest\.layers\[1\]\.size/);
  }
  assert.throws(
    () => parseManifest(withLayer({ ...descriptor, digest: "sha256:../../x" })),
    /manifest\.layers\[1\]\.digest/,
  );
  assert.throws(() => parseManifest(withLayer({ ...descriptor, Digest: digest })), /ambiguous key/);
  assert.throws(() => parseManifest(withLayer({ digest, size: 1 })), /mediaType: missing/);
  assert.throws(() => parseManifest(withLayer("x")), /expected an object/);
});

test("documents of other shapes are refused", () => {
  const bad = [
    [],
    "x",
    null,
    {},
    { schemaVersion: 2 },
    { schemaVersion: 1, fsLayers: [] },
    { schemaVersion: 2, config },
    { schemaVersion: 2, layers: [] },
    { schemaVersion: 2, manifests: {} },
    { schemaVersion: "2", config, layers: [] },
    { schemaVersion: 2, manifests: Array(10_001).fill(descriptor) },
  ];
  for (const document of bad)
    assert.throws(() => parseImageDocument(bytes(document)), invalid, JSON.stringify(document)?.slice(0, 80));
});

test("H47 foreign layers are known as such", () => {
  assert.deepEqual(layerKindOf(mediaTypes.dockerForeignLayerGzip), { compression: "gzip", foreign: true });
  assert.deepEqual(layerKindOf(mediaTypes.ociLayerZstd), { compression: "zstd", foreign: false });
  assert.equal(layerKindOf("application/octet-stream"), undefined);
});
