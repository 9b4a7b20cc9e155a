/**
 * The central property, driver by driver: *native diff ≡ diff of two trees ≡ what was done*.
 *
 * Random operations change one to five layers of a driver. After each, the driver's own diff, as a layer tar, is applied to
 * a plain copy of the tree so far and to another layer of the driver; the diff of the two whole trees is applied likewise.
 * All must give the tree that the mount shows. A failing sequence shrinks and prints itself.
 *
 * Hard links are compared among the names of the stream: where the layers are overlays, a name that a layer does not touch
 * stays linked to what it was linked to below.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { differOf } from "../../src/diff/export-job.ts";
import type { ApplyTarget } from "../../src/diff/source.ts";
import { TreesDiffer } from "../../src/diff/trees-differ.ts";
import type { Driver, DriverFactory, LayerId } from "../../src/drivers/driver.ts";
import { newLayerId } from "../../src/drivers/layer-id.ts";
import { applyLayerTar, type LayerTar, layerTarOf } from "./layer-tars.ts";
import { sh } from "./overlay-lab.ts";
import { type Operation, operationSequence, performAll, plantedTree } from "./random-operations.ts";
import { differences, snapshot, type TreeSnapshot } from "./tree-snapshot.ts";

export interface DriverPropertyOptions {
  /** Makes an empty directory for a driver's home on the file system under test; removed with what is in it. */
  readonly makeHome: () => string;
  readonly driverOptions?: Readonly<Record<string, string>>;
  readonly skip?: string | undefined;
  /** Sequences. Default: 100. */
  readonly runs?: number;
  /** False: no object has several names, where the mount shows wrong things when one of them is written to. */
  readonly hardLinks?: boolean;
  /** False: no ACLs, where the file system keeps them as it keeps any attribute, and the mode does not follow them. */
  readonly acls?: boolean;
}

/** Sequences that failed once, tried first. */
const examples: [Operation[][]][] = [
  // A new name of a lower file is looked at before the file.
  [[[{ op: "remove", path: "c" }], [{ op: "link", path: "a/b/c", to: "c" }]]],
];

/** Registers the property test of a driver under `name`. */
export function testDriverProperty(name: string, factory: DriverFactory, options: DriverPropertyOptions): void {
  test(`${name}: native ≡ two trees ≡ done`, { skip: options.skip ?? false }, async () => {
    const home = options.makeHome();
    const driver = await factory.open(home, options.driverOptions ?? {});
    try {
      const { hardLinks = true, acls = true } = options;
      const isLeftOut = ({ op }: Operation): boolean => (op === "link" && !hardLinks) || (op === "acl" && !acls);
      const planted = hardLinks ? plantedTree : plantedTree.replaceAll("ln a", "cp -p a");
      const property = fc.asyncProperty(operationSequence, (layers) => {
        const kept = layers.map((operations) => operations.filter((one) => !isLeftOut(one)));
        return check(driver, kept, planted);
      });
      await fc.assert(property, { numRuns: options.runs ?? 100, verbose: 1, examples });
    } finally {
      await driver.rest();
      execFileSync("rm", ["-rf", "--one-file-system", home]);
    }
  });
}

async function check(driver: Driver, layers: readonly (readonly Operation[])[], planted: string): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), "lamella-property-"));
  const made: LayerId[] = [];
  const make = async (parent: LayerId | undefined): Promise<LayerId> => {
    const id = newLayerId();
    await driver.create(id, parent);
    made.unshift(id);
    return id;
  };
  try {
    const plain = directory(scratch, "native");
    const naive = directory(scratch, "naive");
    let top = await make(undefined);
    await change(driver, top, (root) => sh(planted, root));
    const base = await nativeTar(driver, top);
    for (const root of [plain, naive]) applyLayerTar(inPlace(root), base, join(scratch, "spill"));
    for (const [index, operations] of layers.entries()) {
      const parent = top;
      top = await make(parent);
      await change(driver, top, (root) => performAll(root, operations));
      const done = await shown(driver, top);
      const tar = await nativeTar(driver, top);
      const compare = (what: string, tree: TreeSnapshot): void =>
        assert.deepEqual(differences(done, tree, tar.objects), [], `layer ${index}: ${what}`);
      applyLayerTar(inPlace(plain), tar, join(scratch, "spill"));
      compare("native diff, carried out", snapshot(plain));
      applyLayerTar(inPlace(naive), await naiveTar(driver, parent, top), join(scratch, "spill"));
      compare("diff of two trees, carried out", snapshot(naive));
      const twin = await make(parent);
      {
        await using target = await driver.applyTarget(twin);
        applyLayerTar(target.value, tar, join(scratch, "spill"));
      }
      compare("native diff, applied to a layer", await shown(driver, twin));
    }
  } finally {
    for (const id of made) {
      await driver.unmountAll(id);
      await driver.remove(id);
    }
    execFileSync("rm", ["-rf", scratch]);
  }
}

function directory(scratch: string, name: string): string {
  const path = join(scratch, name);
  mkdirSync(path);
  return path;
}

function inPlace(root: string): ApplyTarget {
  return { whiteouts: "remove", root, lowers: [], prefix: "trusted.overlay." };
}

async function change(driver: Driver, id: LayerId, work: (root: string) => void): Promise<void> {
  await using mounted = await driver.mount(id);
  work(mounted.path);
}

async function shown(driver: Driver, id: LayerId): Promise<TreeSnapshot> {
  await using mounted = await driver.mount(id, { readOnly: true });
  return snapshot(mounted.path);
}

async function nativeTar(driver: Driver, id: LayerId): Promise<LayerTar> {
  await using source = await driver.diffSource(id);
  return layerTarOf(differOf(source.value, false, () => undefined).changes());
}

async function naiveTar(driver: Driver, parent: LayerId, id: LayerId): Promise<LayerTar> {
  await using below = await driver.mount(parent, { readOnly: true });
  await using above = await driver.mount(id, { readOnly: true });
  // fuse-overlayfs counts only the links it has come across: every name is looked at before counts are relied on.
  for (const { path } of [below, above]) snapshot(path);
  const source = { kind: "trees", parent: below.path, tree: above.path } as const;
  return layerTarOf(new TreesDiffer(source, { threads: 1 }).changes());
}
