/**
 * An engine with the driver btrfs, in the directory given as argument, from an import to nothing left. In a process of its
 * own: Node.js's threads for files started before the test's process entered its mount namespace.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Engine } from "../../src/engine/engine.ts";

const directory = process.argv[2] ?? "";
mkdirSync(`${directory}/tree/etc`, { recursive: true });
writeFileSync(`${directory}/tree/etc/large`, Buffer.alloc(200_000, 1));
await using engine = await Engine.open({ root: `${directory}/root`, driver: "btrfs" });
const image = await engine.import({ source: `${directory}/tree`, name: "base" });
const container = await engine.create({ image: image.id });
execFileSync("sh", ["-ec", "echo 1 > etc/new; mv etc moved"], { cwd: await engine.mount(container) });
assert.deepEqual(
  (await engine.diff(container)).map(({ kind, path }) => `${kind} ${path}`),
  ["D /etc", "A /moved", "A /moved/large", "A /moved/new"],
);
await engine.commit(container, { name: "two" });
const again = await engine.create({ image: "two" });
assert.equal(readFileSync(`${await engine.mount(again)}/moved/new`, "utf8"), "1\n");
execFileSync("sync", ["-f", directory]);
const { layersBytes } = await engine.usage();
// The image's file; what the commit unpacked, the moved file among it; the new file of the container.
assert.ok(layersBytes >= 400_000 && layersBytes < 500_000, String(layersBytes));
for (const id of [container, again]) await engine.removeContainer(id, { force: true });
for (const name of ["two", "base"]) await engine.removeImage(name);
await engine.gc();
assert.deepEqual(readdirSync(`${directory}/root/btrfs/subvolumes`), []);
