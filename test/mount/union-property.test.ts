/**
 * The union file system against the kernel's overlayfs: random operations on both, over equal layers, must give equal answers
 * and views; then each reads what the other has written. In a second property both take turns on one upper directory, which
 * is compared with that of the kernel alone, marks and all. Ten thousand operations are done on each side, in all.
 * LAMELLA_UNION_OPERATIONS: how many to do; LAMELLA_UNION_SEED: the one to begin
 * with, which the names of the tests tell.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";
import { mountKernelUnion } from "../support/kernel-union.ts";
import { inUserNamespace, privateMounts, sh } from "../support/overlay-lab.ts";
import { type Operation, operation, performAll, plantedTree } from "../support/random-operations.ts";
import { differences, snapshot, type TreeSnapshot, timeless } from "../support/tree-snapshot.ts";
import { UnionServer } from "../support/union-server.ts";
import { marksOf } from "../support/upper-marks.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const wanted = Number(process.env.LAMELLA_UNION_OPERATIONS ?? 10_000);
/** Sequences that one seed gives. */
const numRuns = 5;

/** In a user namespace marks are attributes of users; the kernel has neither redirects nor metacopy there. */
const rootless = inUserNamespace();
const prefix = rootless ? "user.overlay." : "trusted.overlay.";

/**
 * Without notes where a copy came from, the kernel takes two names that a link gave one file for two files, until it forgets
 * them; a rename of one to the other then removes one, which POSIX forbids.
 */
const comparable = rootless ? operation.filter(({ op }) => op !== "link") : operation;

/** Operations for one to four mounts, one after another. */
const sequence = fc.array(fc.array(comparable, { minLength: 1, maxLength: 100, size: "max" }), {
  minLength: 1,
  maxLength: 4,
});

interface Features {
  readonly redirectDir: boolean;
  readonly metacopy: boolean;
  readonly index: boolean;
}

/** One stack of layers: who writes it, and where. */
class Stack {
  readonly merged: string;
  readonly #folder: string;
  readonly #features: Features;
  layers: string[] = [];
  #count = 0;

  constructor(folder: string, features: Features) {
    mkdirSync(folder);
    this.#folder = folder;
    this.#features = features;
    // Symbolic links of the pool lead three directories up, where the other stack must not be.
    this.merged = join(folder, "1/2/merged");
    mkdirSync(this.merged, { recursive: true });
    const base = this.#directory("base");
    sh(`${plantedTree}\nfind . -exec touch -h -d @1200000000 {} +`, base);
    this.layers = [base];
  }

  /** Directories for one more layer, which is part of the stack from now on. */
  next(): UnionOptions & { readonly upper: string } {
    const lowers = [...this.layers];
    const upper = this.#directory("upper");
    this.layers.unshift(upper);
    return { lowers, upper, work: this.#directory("work"), prefix, ...this.#features };
  }

  readOnly(): UnionOptions {
    const bottom = this.#directory("empty");
    return { lowers: [...this.layers, bottom], prefix, ...this.#features };
  }

  #directory(name: string): string {
    const path = join(this.#folder, `${name}${this.#count++}`);
    mkdirSync(path);
    return path;
  }
}

/**
 * `links`: hard links are compared, too. In a user namespace the kernel shows the names of a copied-up file as different ones
 * until it forgets them, as it cannot note there where a copy came from.
 */
function assertEqualViews(kernel: TreeSnapshot, ours: TreeSnapshot, what: string, links = true): void {
  const linked = links ? [...kernel.inodes.keys()] : [];
  const found = differences(timeless(kernel), timeless(ours), linked);
  assert.deepEqual(found, [], `${what} (the kernel's | ours)`);
}

function assertEqualAnswers(
  operations: readonly Operation[],
  kernel: readonly number[],
  ours: readonly number[],
): void {
  const found = operations.flatMap((operation, i) =>
    kernel[i] === ours[i] ? [] : [`${i}: ${JSON.stringify(operation)}: ${kernel[i]} | ${ours[i]}`],
  );
  assert.deepEqual(found, [], "the answers differ (the kernel's | ours)");
}

/** With an index, the kernel copies those directories up in which a name of a linked file was used; we know no names. */
const view = (merged: string, { index }: Features): TreeSnapshot =>
  snapshot(merged, { asMounted: index ? "files" : true });

/** Carries out each list of operations on a layer of its own, on both sides. */
async function compare(server: UnionServer, folder: string, features: Features, lists: Operation[][]): Promise<void> {
  const kernel = new Stack(join(folder, "kernel"), features);
  const ours = new Stack(join(folder, "ours"), features);
  try {
    for (const operations of lists) {
      mountKernelUnion(kernel.merged, kernel.next());
      await server.mount(ours.merged, ours.next());
      const theirs = performAll(kernel.merged, operations);
      assertEqualAnswers(operations, theirs, performAll(ours.merged, operations));
      assertEqualViews(view(kernel.merged, features), view(ours.merged, features), "the views differ", !rootless);
      await server.unmount();
      umount(kernel.merged);
    }
    mountKernelUnion(kernel.merged, kernel.readOnly());
    const expected = snapshot(kernel.merged);
    mountKernelUnion(ours.merged, ours.readOnly());
    assertEqualViews(expected, snapshot(ours.merged), "the kernel reads our layers otherwise");
    umount(ours.merged);
    await server.mount(ours.merged, kernel.readOnly());
    assertEqualViews(expected, snapshot(ours.merged), "we read the kernel's layers otherwise");
    await server.unmount();
    umount(kernel.merged);
  } finally {
    await server.unmount();
    umount(ours.merged);
    umount(kernel.merged);
  }
}

/** Carries each list out by another mounter of one upper directory, ours first; beside it, the kernel alone does it all. */
async function takeTurns(server: UnionServer, folder: string, features: Features, lists: Operation[][]): Promise<void> {
  const kernel = new Stack(join(folder, "kernel"), features);
  const mixed = new Stack(join(folder, "mixed"), features);
  const [alone, shared] = [kernel.next(), mixed.next()];
  try {
    for (const [i, operations] of lists.entries()) {
      mountKernelUnion(kernel.merged, alone);
      if (i % 2 === 0) await server.mount(mixed.merged, shared);
      else mountKernelUnion(mixed.merged, shared);
      assertEqualAnswers(operations, performAll(kernel.merged, operations), performAll(mixed.merged, operations));
      assertEqualViews(view(kernel.merged, features), view(mixed.merged, features), "the views differ", !rootless);
      await server.unmount();
      umount(mixed.merged);
      umount(kernel.merged);
      // With an index, which names of a file lie in the upper layer means nothing.
      if (features.index) continue;
      assert.deepEqual(
        marksOf(shared.upper, prefix),
        marksOf(alone.upper, prefix),
        "the upper layers differ (ours, the kernel's)",
      );
    }
  } finally {
    await server.unmount();
    umount(mixed.merged);
    umount(kernel.merged);
  }
}

const plain: Features = { redirectDir: false, metacopy: false, index: false };
const full: Features = { redirectDir: true, metacopy: true, index: false };
const ways = { "layer by layer": compare, "in turns on one layer": takeTurns };
/** In all, the properties of a user namespace with them. */
const properties = 7;
const seed = Number(process.env.LAMELLA_UNION_SEED ?? Date.now() & 0x7fffffff);
for (const features of rootless ? [plain] : [full, plain, { ...full, index: true }])
  for (const [how, check] of Object.entries(ways)) {
    // A layer below others has no index any more, and with it loses which names were one file.
    if (features.index && check === compare) continue;
    test(`random operations ${how} give what the kernel gives, with ${JSON.stringify(features)}, seed ${seed}`, async (t) => {
      const ready = privateMounts();
      if (ready !== true) return t.skip(ready);
      await using server = new UnionServer();
      let count = 0;
      const property = fc.asyncProperty(sequence, async (lists) => {
        const folder = mkdtempSync(join(tmpdir(), "lamella-union-"));
        try {
          await check(server, folder, features, lists);
          count += lists.flat().length;
        } finally {
          execFileSync("rm", ["-rf", folder]);
        }
      });
      for (let next = seed; count < wanted / properties; next++) await fc.assert(property, { numRuns, seed: next });
    });
  }

if (!rootless) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
