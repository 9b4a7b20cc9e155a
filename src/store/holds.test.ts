import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { tryLock, waitFor } from "./chain-lock.ts";
import { Holds, readAllHolds, readOtherHolds } from "./holds.ts";

function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "lamella-holds-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const name = (n: number): string => n.toString(16).padStart(64, "0");

test("any sequence of holds and releases leaves exactly what is held in the file", (t) => {
  const directory = scratch(t);
  const step = fc.record({ kind: fc.constantFrom("L", "B"), isHold: fc.boolean(), n: fc.nat(6) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      using holds = new Holds(directory);
      const uses = new Map<string, number>();
      for (const { kind, isHold, n } of steps) {
        const key = `${kind}${n}`;
        const before = uses.get(key) ?? 0;
        uses.set(key, Math.max(0, before + (isHold ? 1 : -1)));
        if (kind === "L") isHold ? holds.holdLayer(name(n)) : holds.releaseLayer(name(n));
        else isHold ? holds.holdBlob(name(n)) : holds.releaseBlob(name(n));
      }
      const held = (kind: string): string[] =>
        [...uses].flatMap(([key, count]) => (key[0] === kind && count > 0 ? [name(Number(key.slice(1)))] : [])).sort();
      const { layers, blobs } = readAllHolds(directory);
      assert.deepEqual([...layers].sort(), held("L"));
      assert.deepEqual([...blobs].sort(), held("B"));
      if (layers.size + blobs.size === 0) assert.equal(statSync(join(directory, holds.owner)).size, 0);
    }),
    { numRuns: 100 },
  );
  assert.deepEqual(readdirSync(directory), []);
});

test("a file whose lock is free is a dead process's", (t) => {
  const directory = scratch(t);
  using living = new Holds(directory);
  living.holdLayer(name(1));
  const dead = `p-${"d".repeat(24)}`;
  writeFileSync(join(directory, dead), `L ${name(2)}\n${" ".repeat(66)}\nB ${name(3)}\n`);
  const others = readOtherHolds(directory, undefined);
  assert.deepEqual(others.livingOwners, [living.owner]);
  assert.deepEqual(others.deadOwners, [dead]);
  assert.deepEqual([...others.living.layers], [name(1)]);
  assert.deepEqual([...others.dead.layers], [name(2)]);
  assert.deepEqual([...others.dead.blobs], [name(3)]);
  assert.deepEqual(readOtherHolds(directory, living.owner).livingOwners, []);
});

test("a torn last slot is not believed", (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, `p-${"d".repeat(24)}`), `L ${name(2)}\nL ${name(3).slice(0, 20)}`);
  assert.deepEqual([...readAllHolds(directory).layers], [name(2)]);
});

test("a lock is had by one at a time, and its file goes with it", async (t) => {
  const path = join(scratch(t), "lock");
  let inside = 0;
  const work = async (): Promise<void> => {
    using _lock = await waitFor(() => tryLock(path), undefined);
    assert.equal(++inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 1));
    inside--;
  };
  await Promise.all(Array.from({ length: 20 }, work));
  assert.throws(() => readFileSync(path), { code: "ENOENT" });
});

test("waiting ends when it is canceled", async (t) => {
  const path = join(scratch(t), "lock");
  using _lock = tryLock(path);
  const signal = AbortSignal.timeout(20);
  await assert.rejects(
    waitFor(() => tryLock(path), signal),
    { kind: "canceled" },
  );
});
