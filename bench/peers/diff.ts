/**
 * Lamella's side of the diff benchmarks. Each line of input is one task:
 *   `native ROOT CONTAINER TIMES`   the diff of a container, so many times over
 *   `naive PARENT TREE`             the two-tree diff
 * The answer is the number of changes.
 */
import { createInterface } from "node:readline";
import { listChanges } from "../../src/diff/export-layer.ts";
import { Engine } from "../../src/index.ts";

const engines = new Map<string, Engine>();

for await (const line of createInterface({ input: process.stdin })) {
  const [task, first = "", second = "", times = "1"] = line.split(" ");
  let changes = 0;
  if (task === "native") {
    const engine = engines.get(first) ?? (await Engine.open({ root: first }));
    engines.set(first, engine);
    for (let i = 0; i < Number(times); i++) changes = (await engine.diff(second)).length;
  } else changes = (await listChanges({ kind: "trees", parent: first, tree: second })).length;
  console.log(changes);
}
for (const engine of engines.values()) await engine[Symbol.asyncDispose]();
