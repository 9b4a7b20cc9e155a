/** Docker archives and OCI layouts whose members lie (H49 to H51), and unusual ones that must load. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { assertWhole } from "../fault/store-fixtures.ts";
import {
  configOf,
  dockerMembers,
  hex,
  json,
  lab,
  layerTar,
  type Members,
  pack,
  sha256,
  simpleOci,
} from "./archives-fixtures.ts";
import { dir, file, hardlink, item, symlink, tarOf } from "./layers-fixtures.ts";

/** A docker archive whose only layer is the given entry, named `l/layer.tar`. */
function withLayerEntry(entry: Buffer, name = "l/layer.tar", tar = layerTar()): Buffer {
  const config = configOf([sha256(tar)]);
  const manifest = json([{ Config: `${hex(config)}.json`, RepoTags: ["bad:1"], Layers: [name] }]);
  return tarOf(
    file(`${hex(config)}.json`, config as unknown as string),
    entry,
    file("manifest.json", manifest as unknown as string),
  );
}

test("H49 CVE-2014-9356: a layer that is a symlink out of the archive is refused", async (t) => {
  const { refuse, directory } = await lab(t);
  for (const target of ["/etc/passwd", "../../../../etc/passwd", `${directory}/victim/file`, "../l"]) {
    await refuse(
      withLayerEntry(tarOf(symlink("l/layer.tar", target)).subarray(0, 512)),
      "ARCHIVE_MEMBER",
      /l\/layer\.tar/,
    );
  }
});

test("H49: links among members that lead in a circle are refused", async (t) => {
  const { refuse } = await lab(t);
  const links = tarOf(symlink("l/layer.tar", "../m"), symlink("m", "l/layer.tar")).subarray(0, 1024);
  await refuse(withLayerEntry(links), "ARCHIVE_MEMBER", /links/);
  await refuse(withLayerEntry(tarOf(hardlink("l/layer.tar", "l/layer.tar")).subarray(0, 512)), "ARCHIVE_MEMBER");
});

test("H49 CVE-2014-9357/9358: absolute and climbing layer paths are refused", async (t) => {
  const { refuse } = await lab(t);
  for (const name of ["/etc/passwd", "../victim/file", "a/../../victim/file", "", "."]) {
    await refuse(withLayerEntry(Buffer.alloc(0), name), "INVALID_DOCUMENT");
  }
});

test("H49: members with climbing names are never reached", async (t) => {
  const { load, store } = await lab(t);
  const archive = Buffer.concat([
    tarOf(file("../victim/file", "overwritten"), file("/tmp/lamella-victim", "x")).subarray(0, 2048),
    pack(dockerMembers()),
  ]);
  await load(archive);
  await assertWhole(store);
});

test("H49: no manifest.json and no index.json is no image archive", async (t) => {
  const { refuse, refuseLoad, store } = await lab(t);
  await refuse(tarOf(dir("bin"), file("bin/sh", "x")), "NOT_AN_ARCHIVE");
  await refuse(Buffer.alloc(0), "NOT_AN_ARCHIVE");
  await refuse(Buffer.from("not a tar at all, but long enough to be looked at".repeat(40)), /^TAR_/);
  await refuseLoad(store.load({ path: "/nowhere/at/all" }), "NO_SUCH_FILE");
});

test("H49: members that are missing, twice there, or no files are refused by name", async (t) => {
  const { refuse } = await lab(t);
  for (const gone of ["0/layer.tar", [...dockerMembers().keys()][0] ?? ""]) {
    const members = dockerMembers();
    members.delete(gone);
    await refuse(pack(members), "ARCHIVE_MEMBER", /is not in the archive/);
  }
  await refuse(
    tarOf(pack(dockerMembers()).subarray(0, -1024), file("0/layer.tar", "other")),
    "ARCHIVE_MEMBER",
    /twice/,
  );
  await refuse(withLayerEntry(tarOf(dir("l/layer.tar")).subarray(0, 512)), "ARCHIVE_MEMBER", /no regular file/);
  await refuse(
    withLayerEntry(tarOf(item("fifo", "l/layer.tar")).subarray(0, 512)),
    "ARCHIVE_MEMBER",
    /no regular file/,
  );
});

test("H49: the archive is cut off anywhere", async (t) => {
  const { refuse } = await lab(t);
  const whole = pack(dockerMembers());
  for (let length = 512; length < whole.length - 1024; length += 512) {
    await refuse(whole.subarray(0, length), /^(TAR_TRUNCATED|NOT_AN_ARCHIVE|ARCHIVE_MEMBER|TRUNCATED)$/);
  }
});

test("H50: tags that are no references are refused", async (t) => {
  const { refuse } = await lab(t);
  for (const tag of ["../../x", "a:b:c", "UPPER", "x@sha256:0", "a//b", ""]) {
    const members = dockerMembers();
    const [entry] = JSON.parse(String(members.get("manifest.json"))) as object[];
    members.set("manifest.json", json([{ ...entry, RepoTags: [tag] }]));
    await refuse(pack(members), /^(INVALID_REFERENCE|INVALID_DIGEST|INVALID_TAG)$/);
  }
});

/** Writes a layout as a directory. */
function writeLayout(path: string, members: Members): void {
  for (const [name, bytes] of members) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), bytes);
  }
}

test("H51: a blob that is a symlink, a fifo or a directory is refused", async (t) => {
  const { store, directory, refuseLoad } = await lab(t);
  const members = simpleOci();
  const blob = [...members.keys()].find((name) => name.startsWith("blobs/")) ?? "";
  const path = join(directory, "layout");
  for (const make of [
    (at: string) => symlinkSync(join(directory, "victim/file"), at),
    (at: string) => execFileSync("mkfifo", [at]),
    (at: string) => mkdirSync(at),
  ]) {
    for (const name of [blob, "index.json", "oci-layout"]) {
      rmSync(path, { recursive: true, force: true });
      writeLayout(path, members);
      rmSync(join(path, name));
      make(join(path, name));
      await refuseLoad(store.load({ path }), "ARCHIVE_MEMBER", /is no regular file/);
    }
  }
  rmSync(path, { recursive: true });
  writeLayout(path, members);
  execFileSync("mv", [join(path, "blobs"), join(directory, "blobs")]);
  symlinkSync("../blobs", join(path, "blobs"));
  await refuseLoad(store.load({ path }), "ARCHIVE_MEMBER", /is no regular file/);
});

test("a layer.tar that is a link to another member loads, as docker save once wrote", async (t) => {
  const { load, store } = await lab(t);
  const tar = layerTar();
  for (const link of [symlink("l/layer.tar", "../m/layer.tar"), hardlink("l/layer.tar", "m/layer.tar")]) {
    const entry = tarOf(file("m/layer.tar", tar as unknown as string), link);
    await load(withLayerEntry(entry.subarray(0, -1024)));
  }
  assert.equal(store.images().length, 1);
  await assertWhole(store);
});

test("members named with ./ load; so do archives through a pipe, compressed, and read twice", async (t) => {
  const { load, store } = await lab(t);
  const members = dockerMembers([layerTar("one"), layerTar("two")]);
  const dotted: Members = new Map([...members].map(([name, bytes]) => [`./${name}`, bytes]));
  const [loaded] = await load(pack(dotted));
  assert.deepEqual(loaded?.tags, ["bad:1"]);
  await store.removeImage("bad:1");
  await store.load({ stream: Readable.from([gzipSync(pack(members))]) });
  await load(gzipSync(pack(members)));
  const layers = store.layersOf(store.image("bad:1").chainId);
  assert.equal(layers.length, 2);
  const tars = await Promise.all(layers.map(async ({ chainId }) => tarOfLayer(store.readLayer(chainId))));
  assert.deepEqual(tars, [layerTar("one"), layerTar("two")]);
  await assertWhole(store);
});

async function tarOfLayer(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test("what is saved loads again, and the same image saves to the same bytes", async (t) => {
  const { load, store, directory } = await lab(t);
  await load(pack(dockerMembers([layerTar("one"), layerTar("two")])));
  const { id } = store.image("bad:1");
  for (const format of ["docker-archive", "oci-archive"] as const) {
    const paths = ["a", "b"].map((name) => join(directory, `${format}-${name}`));
    for (const path of paths) await store.save(["bad:1"], { path }, { format });
    const [first, second] = paths.map((path) => readFileSync(path));
    assert.ok(first?.equals(second as Buffer));
    await store.removeImage("bad:1");
    await store.load({ path: paths[0] as string });
    assert.equal(store.image("bad:1").id, id);
  }
  const path = join(directory, "layout");
  await store.save([id], { path }, { format: "oci-layout", compression: "none" });
  await store.removeImage("bad:1");
  await store.load({ path }, { tags: ["again"] });
  assert.equal(store.image("again").id, id);
  await assertWhole(store);
});
