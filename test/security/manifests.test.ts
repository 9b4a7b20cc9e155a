/** Manifests, configs and digests that lie (H41 to H48), as the store meets them in archives. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import type { LayerId } from "../../src/drivers/driver.ts";
import { assertWhole } from "../fault/store-fixtures.ts";
import {
  addBlob,
  configOf,
  type Descriptor,
  descriptor,
  dockerMembers,
  hex,
  json,
  lab,
  layerTar,
  type Members,
  type OciParts,
  ociMembers,
  ociTypes,
  pack,
  setIndex,
  sha256,
  simpleOci,
} from "./archives-fixtures.ts";

const tar = layerTar();
const blob = gzipSync(tar);
const plain = { layers: [{ bytes: blob, mediaType: ociTypes.gzip }], diffIds: [sha256(tar)] };

/** An archive whose manifest is changed on the way. */
function changed(change: NonNullable<OciParts["manifest"]>): Buffer {
  return pack(ociMembers({ ...plain, manifest: change }));
}

test("H41 CVE-2024-3727: digests that are paths, upper case, sha1 or empty are refused", async (t) => {
  const { refuse } = await lab(t);
  const upper = sha256(blob).toUpperCase().replace("SHA256", "sha256");
  for (const digest of ["sha256:../../x", upper, `sha1:${"a".repeat(40)}`, "", "sha256:", `sha256:${"a".repeat(63)}`]) {
    await refuse(
      changed((manifest) => ({ ...manifest, layers: [{ ...manifest.layers[0], digest }] })),
      "INVALID_DIGEST",
    );
    const members = simpleOci();
    setIndex(members, [{ mediaType: ociTypes.manifest, digest, size: 1 }]);
    await refuse(pack(members), "INVALID_DIGEST");
    await refuse(pack(ociMembers({ ...plain, diffIds: [digest] })), "INVALID_DIGEST");
  }
});

test("H42: sizes off by one, negative or huge are refused", async (t) => {
  const { refuse } = await lab(t);
  for (const [size, code] of [
    [blob.length - 1, "SIZE_MISMATCH"],
    [blob.length + 1, "SIZE_MISMATCH"],
    [-1, "INVALID_DOCUMENT"],
    [2 ** 60, "INVALID_DOCUMENT"],
    [1.5, "INVALID_DOCUMENT"],
  ] as const) {
    await refuse(
      changed((manifest) => ({ ...manifest, layers: [{ ...manifest.layers[0], size }] })),
      code,
    );
  }
});

test("H42: a blob whose content is not its digest's is refused, layer, config and manifest alike", async (t) => {
  const { refuse } = await lab(t);
  const members = simpleOci();
  for (const name of [...members.keys()].filter((key) => key.startsWith("blobs/"))) {
    const copy: Members = new Map(members);
    const bytes = Buffer.from(copy.get(name) as Buffer);
    // Byte 9 of a gzip header is the operating system: the content stays the same, the digest does not.
    const at = bytes[0] === 0x1f ? 9 : bytes.length - 3;
    bytes[at] = (bytes[at] as number) ^ 4;
    copy.set(name, bytes);
    await refuse(pack(copy), "DIGEST_MISMATCH", new RegExp(name));
  }
});

test("H43: a layer that does not have the diff ID the config says is refused", async (t) => {
  const { refuse } = await lab(t);
  const other = sha256(layerTar("other"));
  await refuse(pack(ociMembers({ ...plain, diffIds: [other] })), "DIFF_ID_MISMATCH", /blobs\/sha256/);
  const members = dockerMembers([tar]);
  members.set("0/layer.tar", layerTar("other"));
  await refuse(pack(members), "DIFF_ID_MISMATCH", /0\/layer\.tar/);
  // The second of three layers is the bad one; what unpacks beside it goes too.
  const three = dockerMembers([layerTar("a"), layerTar("b"), layerTar("c")]);
  three.set("1/layer.tar", layerTar("x"));
  await refuse(pack(three), "DIFF_ID_MISMATCH", /1\/layer\.tar/);
  // Stored plain, digest and diff ID must agree even before the content is read.
  await refuse(
    pack(ociMembers({ layers: [{ bytes: tar, mediaType: ociTypes.layer }], diffIds: [other] })),
    "DIGEST_MISMATCH",
  );
});

test("H44 CVE-2021-41190: a document that is manifest and index at once is refused", async (t) => {
  const { refuse } = await lab(t);
  await refuse(
    changed((manifest) => ({ ...manifest, manifests: [] })),
    "INVALID_DOCUMENT",
  );
  const members = simpleOci();
  const index = JSON.parse(String(members.get("index.json"))) as object;
  members.set("index.json", json({ ...index, layers: [], config: {} }));
  await refuse(pack(members), "INVALID_DOCUMENT");
});

test("H45: documents of 50 MiB, of depth 10,000, with duplicate keys", async (t) => {
  const { refuse, load, store } = await lab(t);
  const text = (body: string): Members => new Map([...simpleOci(), ["index.json", Buffer.from(body)]]);
  await refuse(pack(text(`{"schemaVersion":2,"x":"${"a".repeat(50 * 1024 * 1024)}"}`)), "DOCUMENT_TOO_LARGE");
  await refuse(pack(text(`{"schemaVersion":2,"x":${"[".repeat(10_000)}${"]".repeat(10_000)}}`)), "INVALID_JSON");
  await refuse(pack(text(`{"schemaVersion":2,"manifests":[],"manifests":[]}`)), "INVALID_JSON");
  const members = dockerMembers([tar]);
  members.set("manifest.json", Buffer.from(`{"a":`));
  await refuse(pack(members), "INVALID_JSON");
  // `__proto__` is a key like any other.
  await load(changed((manifest) => JSON.parse(`{"__proto__":{"polluted":1},${JSON.stringify(manifest).slice(1)}`)));
  assert.equal(({} as { polluted?: number }).polluted, undefined);
  await assertWhole(store);
});

test("H46: more or fewer diff IDs than layers are refused", async (t) => {
  const { refuse } = await lab(t);
  await refuse(pack(ociMembers({ ...plain, diffIds: [] })), "INVALID_DOCUMENT", /diff/);
  await refuse(pack(ociMembers({ ...plain, diffIds: [sha256(tar), sha256(tar)] })), "INVALID_DOCUMENT", /diff/);
});

test("H46: no layers, and the same layer twice, load", async (t) => {
  const { load, store } = await lab(t);
  await load(pack(ociMembers({ layers: [], diffIds: [], name: "none:1" })));
  assert.equal(store.image("none:1").chainId, undefined);
  const twice = { bytes: blob, mediaType: ociTypes.gzip };
  await load(pack(ociMembers({ layers: [twice, twice], diffIds: [sha256(tar), sha256(tar)], name: "twice:1" })));
  assert.equal(store.layersOf(store.image("twice:1").chainId).length, 2);
  await load(pack(dockerMembers([tar, tar])));
  await assertWhole(store);
});

test("H46: 200 layers load and mount, 501 are refused before any is unpacked", async (t) => {
  const { load, refuse, store } = await lab(t);
  const layers = Array.from({ length: 200 }, (_, i) => layerTar(`file-${i}`));
  await load(pack(dockerMembers(layers)));
  const top = store.layersOf(store.image("bad:1").chainId).at(-1);
  assert.equal(top?.depth, 200);
  {
    await using mounted = await store.driver.mount((top as { layerId: LayerId }).layerId);
    assert.equal(readdirSync(mounted.path).length, 200);
  }
  await store.removeImage("bad:1");
  if (store.driver.capabilities.maxDepth > 501) return;
  const many = Array.from({ length: 501 }, (_, i) => layerTar(`file-${i}`));
  await refuse(pack(dockerMembers(many)), "DEPTH");
});

test("H47: foreign URLs are never fetched", async (t) => {
  const { load, refuse, store } = await lab(t);
  const foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
  const withUrls = (mediaType: string) => (manifest: { layers: Descriptor[] }) => ({
    ...manifest,
    layers: [{ ...manifest.layers[0], mediaType, urls: ["http://127.0.0.1:9/layer", "file:///etc/passwd"] }],
  });
  const missing = ociMembers({ ...plain, manifest: withUrls(foreign) });
  missing.delete(`blobs/sha256/${hex(blob)}`);
  await refuse(pack(missing), "FOREIGN_LAYER");
  // A foreign layer that the archive does hold is a layer like any other.
  await load(changed(withUrls(foreign)));
  await assertWhole(store);
});

test("H48: an index that leads to itself, and one nested without end, are refused", async (t) => {
  const { refuse } = await lab(t);
  const members = simpleOci();
  let inner = JSON.parse(String(members.get("index.json"))) as object;
  for (let i = 0; i < 20; i++) {
    const bytes = addBlob(members, json(inner));
    inner = { schemaVersion: 2, mediaType: ociTypes.index, manifests: [descriptor(ociTypes.index, bytes)] };
  }
  members.set("index.json", json(inner));
  await refuse(pack(members), "INDEX_DEPTH");
  // A real circle would need a digest that contains itself; one that claims to is refused for its digest.
  const claimed = `sha256:${"a".repeat(64)}`;
  const circle = json({ schemaVersion: 2, manifests: [{ mediaType: ociTypes.index, digest: claimed, size: 200 }] });
  const looped = simpleOci();
  const padded = Buffer.concat([circle, Buffer.alloc(200 - circle.length, " ")]);
  looped.set(`blobs/sha256/${"a".repeat(64)}`, padded);
  setIndex(looped, [{ mediaType: ociTypes.index, digest: claimed, size: 200 }]);
  await refuse(pack(looped), "DIGEST_MISMATCH");
});

test("of a multi-platform index the platform asked for is loaded", async (t) => {
  const { load, store, refuseLoad } = await lab(t);
  const members: Members = new Map();
  const manifests = ["amd64", "arm64"].map((architecture) => {
    const layer = addBlob(members, layerTar(architecture));
    const config = addBlob(
      members,
      json({ architecture, os: "linux", rootfs: { type: "layers", diff_ids: [sha256(layer)] } }),
    );
    const manifest = addBlob(
      members,
      json({
        schemaVersion: 2,
        mediaType: ociTypes.manifest,
        config: descriptor(ociTypes.config, config),
        layers: [descriptor(ociTypes.layer, layer)],
      }),
    );
    return descriptor(ociTypes.manifest, manifest, { platform: { os: "linux", architecture } });
  });
  const attestation = { ...manifests[0], platform: { os: "unknown", architecture: "unknown" } };
  const index = addBlob(
    members,
    json({ schemaVersion: 2, mediaType: ociTypes.index, manifests: [attestation, ...manifests] }),
  );
  const annotations = {
    "io.containerd.image.name": "registry.example/library/multi:1",
    "org.opencontainers.image.ref.name": "1",
  };
  setIndex(members, [descriptor(ociTypes.index, index, { annotations })]);
  for (const architecture of ["arm64", "amd64"]) {
    const [loaded] = await load(pack(members), { platform: { os: "linux", architecture } });
    assert.deepEqual(loaded?.tags, ["multi:1"]);
    assert.equal((await store.config(store.image("multi:1").id)).config.architecture, architecture);
  }
  await refuseLoad(load(pack(members), { platform: { os: "linux", architecture: "s390x" } }), "NO_PLATFORM", /s390x/);
});

test("a config that is no JSON, or of another kind, is refused", async (t) => {
  const { refuse } = await lab(t);
  const members = dockerMembers([tar]);
  const config = Buffer.from("{}");
  members.set("c.json", config);
  members.set("manifest.json", json([{ Config: "c.json", RepoTags: null, Layers: ["0/layer.tar"] }]));
  await refuse(pack(members), "INVALID_DOCUMENT", /c\.json/);
  await refuse(
    changed((manifest) => ({
      ...manifest,
      config: { ...manifest.config, mediaType: "application/vnd.oci.empty.v1+json" },
    })),
    "NOT_AN_IMAGE",
  );
  assert.ok(configOf([]).length > 0);
});
