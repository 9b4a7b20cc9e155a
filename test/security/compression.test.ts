/** Compressed layers and archives that lie or hurt (H36 to H40). */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { assertWhole, driverName } from "../fault/store-fixtures.ts";
import { dockerMembers, lab, layerTar, ociMembers, ociTypes, pack, sha256 } from "./archives-fixtures.ts";

const zstd = (bytes: Uint8Array, ...args: string[]): Buffer =>
  execFileSync("zstd", ["-q", "-c", ...args], { input: bytes, maxBuffer: 2 ** 28 });
const hasZstd = ((): boolean => {
  try {
    execFileSync("zstd", ["--version"]);
    return true;
  } catch {
    return false;
  }
})();

/** An archive of one OCI image whose layer is stored as `blob`. */
function archiveOf(blob: Buffer, tar: Buffer, mediaType: string = ociTypes.gzip): Buffer {
  return pack(ociMembers({ layers: [{ bytes: blob, mediaType }], diffIds: [sha256(tar)] }));
}

/** The most memory a process of its own held while it refused an archive, in bytes, and the code of its error. */
function refusal(directory: string, archive: Buffer): { readonly peakBytes: number; readonly error: string } {
  const path = join(directory, "archive.tar");
  writeFileSync(path, archive);
  const child = fileURLToPath(new URL("../fault/store-load-child.ts", import.meta.url));
  const command = [...process.execArgv, child, join(directory, "child-root"), driverName, path];
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  return JSON.parse(execFileSync(process.execPath, command, { env, encoding: "utf8" }));
}

test("H36: a gzip bomb ends with the wrong diff ID in bounded memory, and leaves nothing", async (t) => {
  const { directory, refuse } = await lab(t);
  const bombOf = (mebibytes: number): Buffer =>
    archiveOf(gzipSync(Buffer.alloc(mebibytes * 1024 * 1024), { level: 9 }), layerTar());
  await refuse(bombOf(256), /^(DIFF_ID_MISMATCH|TAR_)/);
  const [small, large] = [refusal(directory, bombOf(1)), refusal(directory, bombOf(512))];
  assert.match(small.error, /^(DIFF_ID_MISMATCH|TAR_)/);
  assert.equal(large.error, small.error);
  assert.ok(large.peakBytes - small.peakBytes < 128 * 1024 * 1024, `${small.peakBytes} B, then ${large.peakBytes} B`);
});

test("H37: zstd with a 2 GiB window is refused", async (t) => {
  const { refuse } = await lab(t);
  // A frame header with a window descriptor of 2 GiB (exponent 21), no content size, then an empty last block.
  const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00]);
  await refuse(archiveOf(frame, layerTar(), ociTypes.zstd), /ZSTD|WINDOW|RESOURCE/);
});

test("H37: skippable frames and many frames are all decoded", async (t) => {
  if (!hasZstd) return t.skip("no zstd program");
  const { load, store } = await lab(t);
  const tar = layerTar();
  const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
  const frames: Buffer[] = [skippable];
  for (let at = 0; at < tar.length; at += 100) frames.push(zstd(tar.subarray(at, at + 100)), skippable);
  await load(archiveOf(Buffer.concat(frames), tar, ociTypes.zstd));
  await assertWhole(store);
});

test("H38: all members of a gzip stream are decoded", async (t) => {
  const { load, store } = await lab(t);
  const tar = layerTar();
  const members = [0, 700, 1400].map((at, i, all) => gzipSync(tar.subarray(at, all[i + 1])));
  await load(archiveOf(Buffer.concat(members), tar));
  await assertWhole(store);
});

test("H39: garbage after the end, damage within and a missing end are refused", async (t) => {
  const { refuse } = await lab(t);
  const tar = layerTar();
  const good = gzipSync(tar);
  const damaged = Buffer.from(good);
  damaged[good.length - 6] = (damaged[good.length - 6] as number) ^ 1;
  for (const blob of [Buffer.concat([good, Buffer.from("garbage")]), damaged, good.subarray(0, -5)]) {
    await refuse(archiveOf(blob, tar), /./, /blobs\/sha256/);
  }
});

test("H40: a magic that contradicts the media type: the bytes decide, the diff ID judges", async (t) => {
  const { load, refuse, store } = await lab(t);
  const tar = layerTar();
  for (const [blob, type] of [
    [tar, ociTypes.gzip],
    [gzipSync(tar), ociTypes.zstd],
    [gzipSync(tar), ociTypes.layer],
  ] as const) {
    await load(archiveOf(blob, tar, type));
    await store.removeImage("bad:1");
  }
  const bzip2 = Buffer.concat([
    Buffer.from("BZh9"),
    Buffer.from([0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
    Buffer.alloc(50),
  ]);
  await refuse(archiveOf(bzip2, tar), "COMPRESSION_UNSUPPORTED", /bzip2/);
  await refuse(archiveOf(gzipSync(gzipSync(tar)), tar), /^(DIFF_ID_MISMATCH|TAR_)/);
});

test("H40: compressed layers in a docker archive, and a compressed archive, load", async (t) => {
  const { load, store } = await lab(t);
  const tar = layerTar();
  const members = dockerMembers([tar]);
  members.set("0/layer.tar", gzipSync(tar));
  await load(pack(members));
  await store.removeImage("bad:1");
  if (hasZstd) await load(zstd(pack(dockerMembers([tar]))));
  await assertWhole(store);
});
