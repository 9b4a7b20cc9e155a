/** Building image archives by hand, good and bad, and loading them into a store that must stay whole. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import type { LoadOptions } from "../../src/store/load.ts";
import type { Store } from "../../src/store/store.ts";
import { assertWhole, openStore, scratch } from "../fault/store-fixtures.ts";
import { file, tarOf } from "./layers-fixtures.ts";

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
export const hex = (bytes: Uint8Array): string => sha256(bytes).slice(7);
export const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** The tar of a layer with one file. */
export const layerTar = (name = "hello"): Buffer => tarOf(file(name, `content of ${name}`));

export function configOf(diffIds: readonly string[]): Buffer {
  return json({ architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: diffIds } });
}

export const ociTypes = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
  gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
} as const;

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  [key: string]: unknown;
}

export function descriptor(mediaType: string, bytes: Uint8Array, more: object = {}): Descriptor {
  return { mediaType, digest: sha256(bytes), size: bytes.length, ...more };
}

/** The members of an OCI layout: name → bytes. */
export type Members = Map<string, Buffer>;

export function addBlob(members: Members, bytes: Buffer): Buffer {
  members.set(`blobs/sha256/${hex(bytes)}`, bytes);
  return bytes;
}

export interface OciParts {
  /** Blobs as stored, base first, with their media types. */
  readonly layers: readonly { readonly bytes: Buffer; readonly mediaType: string }[];
  readonly diffIds: readonly string[];
  /** Changes the manifest before it is written. */
  readonly manifest?: (manifest: { config: Descriptor; layers: Descriptor[]; [key: string]: unknown }) => unknown;
  readonly name?: string;
}

/** The members of a layout with one image. */
export function ociMembers(parts: OciParts): Members {
  const members: Members = new Map();
  const config = addBlob(members, configOf(parts.diffIds));
  for (const { bytes } of parts.layers) addBlob(members, bytes);
  const plain = {
    schemaVersion: 2,
    mediaType: ociTypes.manifest,
    config: descriptor(ociTypes.config, config),
    layers: parts.layers.map(({ bytes, mediaType }) => descriptor(mediaType, bytes)),
  };
  const manifest = addBlob(members, json(parts.manifest?.(structuredClone(plain)) ?? plain));
  setIndex(members, [
    descriptor(ociTypes.manifest, manifest, {
      annotations: { "org.opencontainers.image.ref.name": parts.name ?? "bad:1" },
    }),
  ]);
  return members;
}

export function setIndex(members: Members, manifests: readonly unknown[]): void {
  members.set("oci-layout", json({ imageLayoutVersion: "1.0.0" }));
  members.set("index.json", json({ schemaVersion: 2, manifests }));
}

/** A layout of one plain layer. */
export function simpleOci(): Members {
  const tar = layerTar();
  return ociMembers({ layers: [{ bytes: gzipSync(tar), mediaType: ociTypes.gzip }], diffIds: [sha256(tar)] });
}

/** The members of a docker archive with one image; `change` edits them before they are packed. */
export function dockerMembers(layers: readonly Buffer[] = [layerTar()]): Members {
  const members: Members = new Map();
  const config = configOf(layers.map(sha256));
  members.set(`${hex(config)}.json`, config);
  const names = layers.map((bytes, i) => {
    members.set(`${i}/layer.tar`, bytes);
    return `${i}/layer.tar`;
  });
  members.set("manifest.json", json([{ Config: `${hex(config)}.json`, RepoTags: ["bad:1"], Layers: names }]));
  return members;
}

export function pack(members: Members): Buffer {
  return tarOf(...[...members].map(([name, bytes]) => file(name, bytes as unknown as string)));
}

/** A scratch directory with an empty store, a victim beside it, and archives. */
export interface Lab {
  readonly directory: string;
  readonly store: Store;
  /** Loads an archive given by its bytes. */
  load(archive: Uint8Array, options?: LoadOptions): ReturnType<Store["load"]>;
  /** Loads it, expects that to fail with the code, and that the store is as it was. */
  refuse(archive: Uint8Array, code: string | RegExp, message?: RegExp): Promise<LamellaError>;
  refuseLoad(work: Promise<unknown>, code: string | RegExp, message?: RegExp): Promise<LamellaError>;
}

export async function lab(t: TestContext): Promise<Lab> {
  const directory = scratch(t);
  mkdirSync(join(directory, "victim"));
  writeFileSync(join(directory, "victim/file"), "untouched");
  const store = await openStore(join(directory, "root"));
  t.after(() => store[Symbol.asyncDispose]());
  let count = 0;
  const load: Lab["load"] = async (archive, options) => {
    const path = join(directory, `archive-${count++}.tar`);
    writeFileSync(path, archive);
    return store.load({ path }, options);
  };
  const refuseLoad: Lab["refuseLoad"] = async (work, code, message) => {
    const before = store.images();
    const error = await work.then(
      () => assert.fail("it was accepted"),
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof LamellaError, String(error));
    if (typeof code === "string") assert.equal(error.code, code, error.message);
    else assert.match(error.code, code, error.message);
    if (message !== undefined) assert.match(error.message, message);
    assert.deepEqual(store.images(), before);
    await assertWhole(store);
    assert.deepEqual(readdirSync(join(directory, "victim")), ["file"]);
    assert.ok(!existsSync("/tmp/lamella-victim"));
    return error;
  };
  return {
    directory,
    store,
    load,
    refuseLoad,
    refuse: (archive, code, message) => refuseLoad(load(archive), code, message),
  };
}
