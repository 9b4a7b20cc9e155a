/** Containers' layers are not flushed when they are made: what a power cut takes of them, the next start gives back. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Engine } from "../../src/index.ts";
import { MetaEnvironment } from "../../src/store/tables.ts";
import { privateMounts } from "../support/overlay-lab.ts";

/** What a power cut may take of a layer's folder: content of new files, a name elsewhere, the folder. */
const damages: Readonly<Record<string, { readonly files: readonly string[]; readonly hasLinks: boolean }>> = {
  overlay2: { files: ["link", "lower", "options"], hasLinks: true },
  overlay: { files: ["lower-id"], hasLinks: false },
};

/** Makes the store believe that the machine was started anew. */
async function startAnew(root: string, driver: string): Promise<void> {
  const meta = new MetaEnvironment(join(root, "meta"), { durable: false });
  meta.write(() => meta.state.putSync(`boot:${driver}`, "another"));
  await meta[Symbol.asyncDispose]();
}

for (const [driver, { files, hasLinks }] of Object.entries(damages))
  test(`${driver}: a start after a power cut gives containers back what was not flushed, and keeps what they wrote`, async (t) => {
    const ready = privateMounts();
    if (ready !== true) return t.skip(ready);
    const at = mkdtempSync(join(tmpdir(), "lamella-power-"));
    try {
      const tree = join(at, "tree");
      mkdirSync(tree);
      writeFileSync(join(tree, "base"), "of the image\n");
      const root = join(at, "store");
      const ids: string[] = [];
      const layers: string[] = [];
      {
        await using engine = await Engine.open({ root, driver });
        await engine.import({ source: tree, name: "small" });
        for (let i = 0; i < 4; i++) ids.push(await engine.create({ image: "small" }));
        for (const id of ids) {
          const mounted = await engine.mount(id);
          writeFileSync(join(mounted, "own"), `of ${id}\n`);
          await engine.umount(id);
          layers.push((await engine.containers()).find((one) => one.id === id)?.layerId ?? "");
        }
      }
      const [emptied = "", unnamed = "", lost = ""] = layers;
      const home = join(root, driver);
      for (const name of files) truncateSync(join(home, emptied, name), 0);
      if (hasLinks) rmSync(join(home, "l", readFileSync(join(home, unnamed, "link"), "utf8")));
      rmSync(join(home, lost), { recursive: true });
      await startAnew(root, driver);

      await using engine = await Engine.open({ root, driver });
      for (const id of ids) {
        const mounted = await engine.mount(id);
        assert.equal(readFileSync(join(mounted, "base"), "utf8"), "of the image\n");
        if (id !== ids[2]) assert.equal(readFileSync(join(mounted, "own"), "utf8"), `of ${id}\n`);
        else assert.equal(existsSync(join(mounted, "own")), false);
        await engine.umount(id);
        const changed = (await engine.diff(id)).map(({ path }) => path);
        assert.deepEqual(changed, id === ids[2] ? [] : ["/own"]);
      }
      assert.deepEqual((await engine.check()).findings, []);
    } finally {
      rmSync(at, { recursive: true, force: true });
    }
  });
