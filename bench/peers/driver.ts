/**
 * Lamella's side of the driver benchmarks, one open store. `driver.js STORE DRIVER`; each line of input is one task:
 *   `diff CONTAINER`            the driver's own diff of a container
 *   `two-trees CONTAINER`       the same by comparing its whole tree with its image's
 *   `copy-and-diff IMAGE`       makes a container of an image, changes five files, diffs and removes it
 *   `cycle IMAGE`               creates, mounts, unmounts and removes a container
 *   `read CONTAINER PATH`       mounts a container, reads a file and unmounts it
 * The answer is the number of changes, or of bytes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { listChanges } from "../../src/diff/export-layer.ts";
import { Engine } from "../../src/index.ts";
import { changeFive } from "../five-changes.ts";

const [root = "", driver] = process.argv.slice(2);
const engine = await Engine.open({ root, ...(driver === undefined ? {} : { driver }) });

async function twoTrees(container: string): Promise<number> {
  const record = (await engine.containers()).find(({ id }) => id === container);
  const parent = record && engine.driver.parentOf(record.layerId);
  if (record === undefined || parent === undefined) throw new Error(`no container ${container}`);
  await using below = await engine.driver.mount(parent, { readOnly: true });
  await using above = await engine.driver.mount(record.layerId, { readOnly: true });
  return (await listChanges({ kind: "trees", parent: below.path, tree: above.path })).length;
}

async function copyAndDiff(image: string): Promise<number> {
  const id = await engine.create({ image });
  changeFive(await engine.mount(id));
  await engine.umount(id);
  const changes = await engine.diff(id);
  await engine.removeContainer(id);
  return changes.length;
}

async function cycle(image: string): Promise<number> {
  const id = await engine.create({ image });
  await engine.mount(id);
  await engine.umount(id);
  await engine.removeContainer(id);
  return 0;
}

async function read(container: string, path: string): Promise<number> {
  const tree = await engine.mount(container);
  const bytes = readFileSync(join(tree, path)).length;
  await engine.umount(container);
  return bytes;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [task, first = "", second = ""] = line.split(" ");
  if (task === "diff") console.log((await engine.diff(first)).length);
  else if (task === "two-trees") console.log(await twoTrees(first));
  else if (task === "copy-and-diff") console.log(await copyAndDiff(first));
  else if (task === "cycle") console.log(await cycle(first));
  else console.log(await read(first, second));
}
await engine[Symbol.asyncDispose]();
