/** Real tars through a tree and a tar-split, and back to the same bytes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { applyLayer } from "../../diff/apply-layer.ts";
import type { ContentSource } from "../../diff/source.ts";
import { hexOf } from "../../oci/digest.ts";
import { readSplitTar, writeTarSplit } from "./layer-tar.ts";

const reason = process.getuid?.() === 0 ? undefined : "owners need root";

interface Lab {
  readonly directory: string;
  readonly content: ContentSource;
  readonly split: string;
}

/** Applies a tar to a tree and writes its tar-split. */
async function split(t: TestContext, tar: Buffer, lower?: string): Promise<Lab> {
  const directory = mkdtempSync(join(tmpdir(), "lamella-split-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const root = join(directory, "root");
  mkdirSync(root);
  writeFileSync(join(directory, "tar"), tar);
  const lowers = lower === undefined ? [] : [lower];
  const recordPath = join(directory, "record");
  const spillDir = join(directory, "spill");
  const { diffId } = await applyLayer({
    target: { whiteouts: "overlay", root, lowers, prefix: "trusted.overlay." },
    tar: { file: join(directory, "tar"), offset: 0, length: tar.length },
    recordPath,
    spillDir,
  });
  const content: ContentSource = { layers: [root, ...lowers], prefix: "trusted.overlay." };
  const sha256 = hexOf(diffId);
  await writeTarSplit({ recordPath, spillDir, content, sha256, splitPath: join(directory, "split") }, undefined);
  return { directory, content, split: "split" };
}

async function read(lab: Lab): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const source = { root: lab.directory, splitPath: lab.split, content: lab.content };
  for await (const chunk of readSplitTar(source, undefined)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function sh(script: string, cwd: string): Buffer {
  return execFileSync("sh", ["-euc", script], { cwd, maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] });
}

function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "lamella-tree-"));
  t.after(() => execFileSync("rm", ["-rf", path]));
  return path;
}

describe("a layer's tar by way of tar-split", { skip: reason }, () => {
  test("GNU tar, with links, sparse files, names that are no text and an odd blocking factor", async (t) => {
    const tree = scratch(t);
    const fill = `mkdir -p a/b; cp /etc/passwd a; ln a/passwd a/b/hard; ln -s passwd a/soft; : > a/empty
      truncate -s 3M a/holes; printf data | dd of=a/holes bs=1 seek=2000000 conv=notrunc 2>/dev/null
      printf x > "a/$(printf 'caf\\351')"; printf u > a/ünï; mkfifo a/fifo; head -c 3000000 /dev/urandom > a/big; touch "a/<&>"`;
    for (const format of ["gnu", "pax", "ustar"]) {
      const sparse = format === "ustar" ? "" : "--sparse";
      rmSync(join(tree, "a"), { recursive: true, force: true });
      const tar = sh(`${fill}; tar --format=${format} ${sparse} -b 37 -cf - a`, tree);
      const lab = await split(t, tar);
      assert.ok((await read(lab)).equals(tar), format);
      const lines = gunzipSync(readFileSync(join(lab.directory, "split")))
        .toString("utf8")
        .trim()
        .split("\n");
      const entries = lines.map((line) => JSON.parse(line) as { name?: string; name_raw?: string; position: number });
      assert.deepEqual(
        entries.map(({ position }) => position),
        lines.map((_, i) => i),
      );
      assert.ok(entries.some(({ name_raw }) => name_raw === Buffer.from("a/caf\xe9", "latin1").toString("base64")));
      assert.ok(entries.some(({ name }) => name === "a/ünï"));
      assert.equal(
        entries.some(({ name }) => name === "a/holes"),
        format === "ustar",
        "a sparse file's bytes are segments",
      );
    }
  });

  test("two files of one name: the tree keeps the last, the tar-split both", async (t) => {
    const tree = scratch(t);
    const tar = sh("echo first > f; tar -cf t f; echo 'second, longer' > f; tar -rf t f; cat t", tree);
    const lab = await split(t, tar);
    assert.ok((await read(lab)).equals(tar));
    const text = gunzipSync(readFileSync(join(lab.directory, "split"))).toString();
    assert.equal(text.match(/"type":1/g)?.length, 1);
  });

  test("a file whose name leads through a link of the layer below", async (t) => {
    const tree = scratch(t);
    const lower = scratch(t);
    sh("mkdir -p usr/lib; ln -s /usr/lib lib", lower);
    const tar = sh("mkdir lib; echo content > lib/f; tar -cf - lib/f", tree);
    const lab = await split(t, tar, lower);
    assert.equal(readFileSync(join(lab.directory, "root/usr/lib/f"), "utf8"), "content\n");
    assert.ok((await read(lab)).equals(tar));
    // As Docker writes it: by the name in the tar.
    const docker = gunzipSync(readFileSync(join(lab.directory, "split")))
      .toString()
      .replace("usr/lib/f", "lib/f");
    writeFileSync(join(lab.directory, "split"), gzipSync(docker));
    assert.ok((await read(lab)).equals(tar));
  });

  test("what is damaged is named", async (t) => {
    const tree = scratch(t);
    const tar = sh("head -c 100000 /dev/urandom > f; echo 1 > g; tar -cf - f g", tree);
    const whole = await split(t, tar);
    const path = join(whole.directory, "split");
    const bytes = readFileSync(path);

    writeFileSync(path, bytes.subarray(0, bytes.length - 20));
    await assert.rejects(read(whole), { kind: "data_loss" });
    writeFileSync(path, Buffer.concat([bytes, Buffer.from("garbage")]));
    await assert.rejects(read(whole), { kind: "data_loss" });
    writeFileSync(path, "{}");
    await assert.rejects(read(whole), { code: "COMPRESSION_MISMATCH" });
    const text = gunzipSync(bytes).toString();
    writeFileSync(path, gzipSync(text.slice(0, -30)));
    await assert.rejects(read(whole), { code: "TAR_SPLIT_DAMAGED" });
    writeFileSync(path, gzipSync(text.replace('"name":"g"', '"name":"../../../../../../etc/passwd"')));
    await assert.rejects(read(whole), { code: "CONTENT_LOST" });
    writeFileSync(path, bytes);

    const root = join(whole.directory, "root");
    sh("printf X | dd of=f bs=1 seek=5 conv=notrunc 2>/dev/null", root);
    await assert.rejects(read(whole), { code: "CONTENT_LOST", message: /^\/f no longer has the content/ });
    truncateSync(join(root, "f"), 3);
    await assert.rejects(read(whole), { code: "CONTENT_LOST", message: /^\/f / });
    for (const replace of ["mkfifo f", "ln -s g f", "ln -s /etc/passwd f", "mknod f c 1 5", "mkdir f", "true"]) {
      sh(`rm -rf f; ${replace}`, root);
      await assert.rejects(read(whole), { code: "CONTENT_LOST", message: /^\/f / }, replace);
    }
    rmSync(path);
    symlinkSync("record", path);
    await assert.rejects(read(whole), { code: "ELOOP" });
  });
});
