import assert from "node:assert/strict";
import { test } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { digestOf } from "./digest.ts";
import {
  blobPathOf,
  checkLayoutFile,
  encodeDockerArchiveManifest,
  encodeLayoutFile,
  parseDockerArchiveManifest,
} from "./layout.ts";

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const invalid = (error: unknown) => isLamellaError(error, "invalid_argument");

test("the layout file is checked", () => {
  checkLayoutFile(encodeLayoutFile());
  assert.throws(
    () => checkLayoutFile(bytes({ imageLayoutVersion: "2.0.0" })),
    (e) => isLamellaError(e, "unimplemented"),
  );
  assert.throws(() => checkLayoutFile(bytes({})), invalid);
  assert.equal(blobPathOf(digestOf("")), `blobs/sha256/${digestOf("").slice(7)}`);
});

test("a docker archive's manifest survives encoding and parsing", () => {
  const items = [
    { config: "a.json", repoTags: ["hello:latest"], layers: ["x/layer.tar", "y/layer.tar"] },
    { config: "blobs/sha256/b", repoTags: [], layers: [] },
  ];
  assert.deepEqual(parseDockerArchiveManifest(encodeDockerArchiveManifest(items)), items);
  assert.match(encodeDockerArchiveManifest(items).toString(), /"RepoTags":null/);
});

test("H49, H50 paths that leave the archive and tags that are none are refused", () => {
  const item = { Config: "c.json", RepoTags: ["a:b"], Layers: ["l/layer.tar"] };
  for (const path of ["../c.json", "/c.json", "a/../../c", "", ".", "a//b", "a\0b"]) {
    assert.throws(() => parseDockerArchiveManifest(bytes([{ ...item, Config: path }])), invalid, path);
    assert.throws(() => parseDockerArchiveManifest(bytes([{ ...item, Layers: [path] }])), /Layers\[0\]/, path);
  }
  for (const tag of ["../../x", "a:b:c", ""]) {
    assert.throws(() => parseDockerArchiveManifest(bytes([{ ...item, RepoTags: [tag] }])), invalid, tag);
  }
  for (const document of [[], {}, [{}], [{ ...item, Config: undefined }], ["x"]]) {
    assert.throws(() => parseDockerArchiveManifest(bytes(document)), invalid);
  }
  assert.equal(parseDockerArchiveManifest(bytes([{ ...item, Config: "./c.json" }]))[0]?.config, "c.json");
});
