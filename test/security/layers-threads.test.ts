/** Applying and reading layers through their threads: streams, waiting for the base, giving up, memory, damage. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { applyLayer, type LayerTarInput } from "../../src/diff/apply-layer.ts";
import { readLayerTar } from "../../src/diff/tar-record.ts";
import { LamellaError } from "../../src/errors/lamella-error.ts";
import type { DiffId } from "../../src/oci/digest.ts";
import { describeMerged, dir, entryBytes, file, names, Playground, prefix, tarOf } from "./layers-fixtures.ts";

async function* pieces(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

class Applied {
  readonly #ground: Playground;
  readonly recordPath: string;
  readonly spillDir: string;
  readonly layers: string[];

  constructor(ground: Playground, lowers: readonly string[] = []) {
    this.#ground = ground;
    this.layers = [ground.dir(), ...lowers];
    const base = ground.dir();
    this.recordPath = join(base, "record");
    this.spillDir = join(base, "spill");
  }

  apply(tar: LayerTarInput, more: Partial<Parameters<typeof applyLayer>[0]> = {}) {
    const [root, ...lowers] = this.layers;
    const target = { whiteouts: "overlay", root: root as string, lowers, prefix } as const;
    return applyLayer({ target, tar, recordPath: this.recordPath, spillDir: this.spillDir, ...more });
  }

  read(diffId: DiffId | undefined) {
    const { recordPath, spillDir } = this;
    return readLayerTar({ recordPath, spillDir, content: { layers: this.layers, prefix }, diffId });
  }

  async sha256(diffId: DiffId | undefined): Promise<string> {
    const hash = createHash("sha256");
    for await (const piece of this.read(diffId)) hash.update(piece);
    this.#ground.assertUntouched();
    return `sha256:${hash.digest("hex")}`;
  }
}

const sample = tarOf(
  dir("d"),
  ...Array.from({ length: 300 }, (_, i) => file(`d/f${i}`, `${i}:`.repeat(i * 7))),
  file("big", Buffer.alloc(3_000_000, 0x62).toString("latin1")),
  file("d/f7", "again"),
  file("d/f7", "and again"),
);
const sampleId = `sha256:${createHash("sha256").update(sample).digest("hex")}`;

test("a stream and a file give the same layer, and its exact bytes back", async () => {
  using ground = new Playground();
  const path = join(ground.dir(), "layer.tar");
  writeFileSync(path, Buffer.concat([Buffer.alloc(777), sample]));
  const inputs = [
    pieces(sample, 1000),
    pieces(sample, 4_000_000),
    { file: path, offset: 777, length: sample.length },
  ] as const;
  for (const input of inputs) {
    const applied = new Applied(ground);
    const progress: number[] = [];
    const result = await applied.apply(input, { onProgress: (bytes) => progress.push(bytes) });
    assert.equal(result.diffId, sampleId);
    assert.equal(result.tarSizeBytes, sample.length);
    assert.equal(result.entries, 304);
    assert.ok(progress.length > 0);
    assert.equal(await applied.sha256(result.diffId), sampleId);
  }
});

test("what needs the layers below waits for them, what does not goes on", async () => {
  using ground = new Playground();
  const base = new Applied(ground);
  const upper = new Applied(ground, base.layers);
  let ready = (): void => {};
  const baseReady = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const running = upper.apply(pieces(tarOf(file("d/new"), file("d/.wh.f1", "")), 512), { baseReady });
  await base.apply(pieces(sample, 100_000));
  ready();
  await running;
  const tree = describeMerged(upper.layers);
  assert.ok(tree.has("d/new") && tree.has("d/f2") && !tree.has("d/f1"));
});

test("a base that fails, a stream that fails, a caller who gives up", async () => {
  using ground = new Playground();
  const base = new LamellaError("data_loss", "BASE", "the base is broken");
  await assert.rejects(
    new Applied(ground, [ground.dir()]).apply(pieces(tarOf(file(".wh.x", "")), 512), {
      baseReady: Promise.reject(base),
    }),
    base,
  );
  const failure = new Error("the stream broke");
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield sample.subarray(0, 5000);
    throw failure;
  }
  await assert.rejects(new Applied(ground).apply(broken()), failure);
  async function* hanging(): AsyncGenerator<Uint8Array> {
    yield sample.subarray(0, 5000);
    await new Promise(() => {});
  }
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 200);
  const canceled = new Applied(ground).apply(hanging(), { signal: abort.signal });
  await assert.rejects(canceled, (error) => error instanceof LamellaError && error.kind === "canceled");
  // An archive that is refused ends a stream that would never end by itself.
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield Buffer.from("x".repeat(2000));
    for (;;) yield await new Promise<Uint8Array>((resolve) => setTimeout(resolve, 1, Buffer.alloc(65_536)));
  }
  await assert.rejects(new Applied(ground).apply(endless()), (error) => error instanceof LamellaError);
});

test("H30 half a gigabyte of zeros after the end: bounded memory, a small record, the right digest", async () => {
  using ground = new Playground();
  const block = Buffer.alloc(1024 * 1024);
  const blocks = 512;
  async function* padded(): AsyncGenerator<Uint8Array> {
    yield tarOf(file("f"));
    for (let i = 0; i < blocks; i++) yield block;
  }
  const hash = createHash("sha256").update(tarOf(file("f")));
  for (let i = 0; i < blocks; i++) hash.update(block);
  const applied = new Applied(ground);
  const before = process.memoryUsage().rss;
  const result = await applied.apply(padded());
  assert.equal(result.diffId, `sha256:${hash.digest("hex")}`);
  assert.ok(process.memoryUsage().rss - before < 150 * 1024 * 1024);
  assert.ok(statSync(applied.recordPath).size < 400_000);
  assert.equal(await applied.sha256(result.diffId), result.diffId);
});

test("files that are missing or have changed are named", async () => {
  using ground = new Playground();
  const damage: [string, (root: string, applied: Applied) => void][] = [
    ["/d/f30 ", (root) => unlinkSync(join(root, "d/f30"))],
    ["/big ", (root) => truncateSync(join(root, "big"), 5)],
    ["/d/f200 ", (root) => writeFileSync(join(root, "d/f200"), "X".repeat(statSync(join(root, "d/f200")).size))],
    ["/d/f7 ", (_root, applied) => unlinkSync(join(applied.spillDir, "0"))],
    [
      "/d/f9 ",
      (root) => {
        unlinkSync(join(root, "d/f9"));
        mkdirSync(join(root, "d/f9"));
      },
    ],
  ];
  for (const [name, change] of damage) {
    const applied = new Applied(ground);
    const { diffId } = await applied.apply(pieces(sample, 100_000));
    await new Promise((resolve) => setTimeout(resolve, 20));
    change(applied.layers[0] as string, applied);
    await assert.rejects(applied.sha256(diffId), (error) => {
      assert.ok(error instanceof LamellaError && error.kind === "data_loss", String(error));
      assert.ok(error.message.startsWith(name), error.message);
      return true;
    });
  }
});

test("a damaged record is recognised", async () => {
  using ground = new Playground();
  const applied = new Applied(ground);
  const { diffId } = await applied.apply(pieces(sample, 100_000));
  const whole = readFileSync(applied.recordPath);
  for (const bytes of [whole.subarray(0, whole.length - 1), whole.subarray(0, 10), Buffer.alloc(0)]) {
    writeFileSync(applied.recordPath, bytes);
    await assert.rejects(applied.sha256(diffId), { code: "RECORD_DAMAGED" });
  }
  for (let at = 0; at < whole.length; at += Math.ceil(whole.length / 40)) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 0x55;
    writeFileSync(applied.recordPath, bytes);
    try {
      // A bit that means nothing may differ; the bytes of the tar may not.
      assert.equal(await applied.sha256(diffId), diffId);
    } catch (error) {
      assert.ok(error instanceof LamellaError && error.kind === "data_loss", `byte ${at}: ${error}`);
    }
  }
});

test("a reader that stops early stops the thread", async () => {
  using ground = new Playground();
  const applied = new Applied(ground);
  const big = Buffer.alloc(20_000_000, 1);
  const { diffId } = await applied.apply(
    pieces(Buffer.concat([entryBytes(file("f", big.toString("latin1"))), Buffer.alloc(1024)]), 1_000_000),
  );
  for await (const piece of applied.read(diffId)) {
    assert.ok(piece.length > 0);
    break;
  }
  assert.equal(names(describeMerged(applied.layers)), "f");
});
