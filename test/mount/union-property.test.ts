/**
 * The union file system against the kernel's overlayfs: random operations on both, over equal layers, must give equal views;
 * then each reads what the other has written. LAMELLA_UNION_RUNS: sequences to try; LAMELLA_UNION_SEED repeats a run.
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
import * as sys from "../../src/sys/syscalls.ts";
import { inUserNamespace, privateMounts, sh } from "../support/overlay-lab.ts";
import { type Operation, operationSequence, performAll, plantedTree } from "../support/random-operations.ts";
import { differences, snapshot, type TreeSnapshot } from "../support/tree-snapshot.ts";
import { UnionServer } from "../support/union-server.ts";
import { againInUserNamespace } from "../support/user-namespace.ts";

const numRuns = Number(process.env.LAMELLA_UNION_RUNS ?? 25);
const seed = process.env.LAMELLA_UNION_SEED;

/** In a user namespace marks are attributes of users; the kernel has neither redirects nor metacopy there. */
const rootless = inUserNamespace();
const prefix = rootless ? "user.overlay." : "trusted.overlay.";

interface Features {
  readonly redirectDir: boolean;
  readonly metacopy: boolean;
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
  next(): UnionOptions {
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

function mountKernel(target: string, { lowers, upper, work, redirectDir, metacopy }: UnionOptions): void {
  const on = (value: boolean): string => (value ? "on" : "off");
  // What has been written with redirects is followed, whether or not new ones are made.
  const own = rootless
    ? "index=off,userxattr"
    : `index=off,redirect_dir=${redirectDir ? "on" : "follow"},metacopy=${on(metacopy)}`;
  const rest = upper === undefined ? "" : `,upperdir=${upper},workdir=${work}`;
  sys.mount("overlay", target, "overlay", 0, `${own},lowerdir=${lowers.join(":")}${rest}`);
}

/** A view without what the clock gave it. */
function timeless(tree: TreeSnapshot): TreeSnapshot {
  const lines = [...tree.lines].map(([path, line]) => [path, line.replace(/ 1[7-9]\d{8}\.\d+ /, " now ")] as const);
  return { lines: new Map(lines), inodes: tree.inodes };
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

/** Carries out each list of operations on a layer of its own, on both sides. */
async function compare(server: UnionServer, folder: string, features: Features, lists: Operation[][]): Promise<void> {
  const kernel = new Stack(join(folder, "kernel"), features);
  const ours = new Stack(join(folder, "ours"), features);
  try {
    for (const operations of lists) {
      mountKernel(kernel.merged, kernel.next());
      await server.mount(ours.merged, ours.next());
      const answers = performAll(kernel.merged, operations);
      assert.deepEqual(performAll(ours.merged, operations), answers, "the answers differ (ours, the kernel's)");
      const expected = snapshot(kernel.merged);
      assertEqualViews(expected, snapshot(ours.merged), "the views differ", !rootless);
      await server.unmount();
      umount(kernel.merged);
    }
    mountKernel(kernel.merged, kernel.readOnly());
    const expected = snapshot(kernel.merged);
    mountKernel(ours.merged, ours.readOnly());
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

const plain: Features = { redirectDir: false, metacopy: false };
for (const features of rootless ? [plain] : [{ redirectDir: true, metacopy: true }, plain]) {
  test(`random operations give what the kernel gives, with ${JSON.stringify(features)}`, async (t) => {
    const ready = privateMounts();
    if (ready !== true) return t.skip(ready);
    await using server = new UnionServer();
    const check = fc.asyncProperty(operationSequence, async (lists) => {
      const folder = mkdtempSync(join(tmpdir(), "lamella-union-"));
      try {
        await compare(server, folder, features, lists);
      } finally {
        execFileSync("rm", ["-rf", folder]);
      }
    });
    await fc.assert(check, { numRuns, ...(seed === undefined ? {} : { seed: Number(seed) }) });
  });
}

if (!rootless) test("the same in a user namespace", (t) => againInUserNamespace(t, import.meta.filename));
