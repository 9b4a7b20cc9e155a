/**
 * kill -9 at every failpoint of everything the store does, then a fresh start: the old state or the new, nothing leaked, and
 * the same work then succeeds.
 */
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Failpoint, failpoints } from "../../src/store/failpoints.ts";
import type { Store } from "../../src/store/store.ts";
import { assertWhole, driverName, makeArchive, makeTree, openStore, scratch } from "./store-fixtures.ts";
import { scenarios } from "./store-scenarios.ts";

const child = fileURLToPath(new URL("./store-child.ts", import.meta.url));
const register = fileURLToPath(new URL("../register.mjs", import.meta.url));
const seen = new Set<string>();

/** Runs a scenario in a process of its own. Answers the failpoint it died at, undefined when it ran to its end. */
function runChild(root: string, name: string, number: number, fixtures: string): Promise<string | undefined> {
  const args = ["--import", register, child, root, driverName, name, String(number), fixtures];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { timeout: 60_000, killSignal: "SIGTERM" }, (error, stdout, stderr) => {
      if (error === null) resolve(undefined);
      else if (error.signal === "SIGKILL" && stdout !== "") resolve(stdout);
      else reject(new Error(stderr, { cause: error }));
    });
  });
}

interface Crash {
  readonly number: number;
  readonly failpoint: string;
  readonly root: string;
}

/** The crashes of a scenario at one failpoint after the other, each in its own copy of `before`; two are made at a time. */
async function* crashes(t: TestContext, name: string, before: string, fixtures: string): AsyncGenerator<Crash> {
  const crash = async (number: number): Promise<Crash | undefined> => {
    const root = join(scratch(t), "root");
    execFileSync("cp", ["-a", before, root]);
    const failpoint = await runChild(root, name, number, fixtures);
    return failpoint === undefined ? undefined : { number, failpoint, root };
  };
  for (let number = 1; ; number += 2) {
    for (const result of await Promise.all([crash(number), crash(number + 1)])) {
      if (result === undefined) return;
      yield result;
    }
  }
}

/** What a user sees: tags, containers, cached steps. */
function stateOf(store: Store): string {
  return JSON.stringify({
    tags: store.images().map(({ tags }) => tags),
    containers: store.containers().map(({ name }) => name),
    cache: ["step", "a", "b"].map((key) => store.cacheGet(key) !== undefined),
  });
}

async function makeFixtures(t: TestContext): Promise<string> {
  const fixtures = scratch(t);
  makeTree(join(fixtures, "tree"), "tree");
  await makeArchive(fixtures, "docker-archive");
  await makeArchive(fixtures, "oci-archive");
  execFileSync("gzip", ["-1", join(fixtures, "oci-archive.tar")]);
  return fixtures;
}

async function stateIn(root: string): Promise<string> {
  await using store = await openStore(root);
  return stateOf(store);
}

/** States a crash may leave: before, after, and for work made of several steps those in between. */
async function allowedStates(t: TestContext, name: string, before: string, fixtures: string): Promise<Set<string>> {
  const root = join(scratch(t), "root");
  execFileSync("cp", ["-a", before, root]);
  const states = new Set([await stateIn(root)]);
  await runChild(root, name, 0, fixtures);
  states.add(await stateIn(root));
  if (name === "duplicate") {
    const between = JSON.parse(await stateIn(before)) as { cache: boolean[] };
    states.add(JSON.stringify({ ...between, cache: [false, true, false] }));
  }
  return states;
}

test("killed at any failpoint, the store is whole", async (t) => {
  const fixtures = await makeFixtures(t);
  for (const [name, scenario] of Object.entries(scenarios)) {
    await t.test(name, async (t) => {
      if (scenario.missing !== undefined) return t.skip(scenario.missing);
      const before = join(scratch(t), "before");
      mkdirSync(before);
      {
        await using store = await openStore(before);
        await scenario.prepare(store, fixtures);
      }
      const allowed = await allowedStates(t, name, before, fixtures);
      for await (const { number, failpoint, root } of crashes(t, name, before, fixtures)) {
        seen.add(failpoint);
        await t.test(`${number}: ${failpoint}`, async () => {
          {
            await using store = await openStore(root);
            const state = stateOf(store);
            assert.ok(allowed.has(state), `neither the old state nor the new: ${state}`);
            await assertWhole(store);
          }
          {
            await using store = await openStore(root);
            if (name !== "rm" && name !== "rmi" && name !== "create") await scenario.run(store, fixtures);
            await assertWhole(store);
          }
        });
      }
    });
  }
  await t.test("every failpoint was passed", () => {
    const elsewhere = /^(?:reclaim|migrate)\./;
    const never = failpoints.filter((name: Failpoint) => !seen.has(name) && !elsewhere.test(name));
    assert.deepEqual(never, []);
  });
});

test("killed while it reclaims what another crash left, the store is whole", async (t) => {
  const fixtures = await makeFixtures(t);
  const before = join(scratch(t), "before");
  // Dies with three layers in hand.
  let crashed: string | undefined;
  for (let number = 8; crashed !== "publish.after-sync"; number++) {
    execFileSync("rm", ["-rf", before]);
    mkdirSync(before);
    crashed = await runChild(before, "load-oci-compressed", number, fixtures);
    assert.ok(crashed !== undefined, "publish.after-sync was never passed");
  }
  for await (const { number, failpoint, root } of crashes(t, "reclaim", before, fixtures)) {
    await t.test(`${number}: ${failpoint}`, async () => {
      await using store = await openStore(root);
      assert.deepEqual(store.images(), []);
      await assertWhole(store);
      assert.deepEqual(await store.driver.list(), []);
    });
  }
});
