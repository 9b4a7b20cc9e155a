/** What the store's tests share: a scratch directory, small real trees and archives, and a look at what lies on disk. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Store } from "../../src/store/store.ts";

/** overlay2 works as root only, where nothing else is set up. */
export const driverName = process.getuid?.() === 0 ? "overlay2" : "vfs";

/** A directory that is gone after the test. */
export function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "lamella-store-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Opens a store under `root` that flushes nothing unless told to. */
export function openStore(root: string, options: { readonly durable?: boolean } = {}): Promise<Store> {
  return Store.open({ root, driver: driverName, durable: options.durable ?? false });
}

/** A small root file system with the kinds of things roots have, some files from this machine among them. */
export function makeTree(path: string, marker: string): string {
  mkdirSync(join(path, "etc/sub/deep"), { recursive: true });
  mkdirSync(join(path, "usr/lib"), { recursive: true });
  writeFileSync(join(path, "etc/marker"), marker);
  writeFileSync(join(path, "etc/sub/deep/empty"), "");
  writeFileSync(join(path, "usr/lib/big"), Buffer.alloc(200_000, marker));
  cpSync("/etc/passwd", join(path, "etc/passwd"));
  cpSync("/etc/services", join(path, "etc/services"));
  linkSync(join(path, "etc/passwd"), join(path, "etc/passwd-"));
  symlinkSync("usr/lib", join(path, "lib"));
  return path;
}

/** Writes an archive of an image with three layers, made by commits; answers its path. */
export async function makeArchive(directory: string, format: "docker-archive" | "oci-archive"): Promise<string> {
  const path = join(directory, `${format}.tar`);
  const root = join(directory, `maker-${format}`);
  {
    await using store = await openStore(root);
    const tree = makeTree(join(directory, `tree-${format}`), "one");
    await store.importRoot({ kind: "directory", path: tree }, { tags: ["app:1"], createdAt: "2020-01-02T03:04:05Z" });
    await commitChange(store, "app:1", "app:2", "two");
    await commitChange(store, "app:2", "app:3", "three");
    await store.save(["app:3"], { path }, { format });
  }
  rmSync(root, { recursive: true });
  return path;
}

/** Commits a small change on top of `image`. */
export async function commitChange(store: Store, image: string, tag: string, marker: string): Promise<void> {
  const container = await store.createContainer({ image, durable: false });
  {
    await using mounted = await store.driver.mount(container.layerId);
    writeFileSync(join(mounted.path, `etc/marker-${marker}`), marker);
    rmSync(join(mounted.path, "etc/sub"), { recursive: true, force: true });
    mkdirSync(join(mounted.path, "etc/sub"));
  }
  await store.commitContainer(container.id, { tags: [tag], createdAt: "2020-01-02T03:04:05Z" });
  await store.removeContainer(container.id);
}

/** Everything on disk is accounted for, nothing else is there, and the sizes are right. */
export async function assertWhole(store: Store): Promise<void> {
  const { findings } = await store.check({ deep: true });
  assert.deepEqual(findings, []);
  const images = store.images();
  const chains = new Set(images.flatMap(({ chainId }) => store.layersOf(chainId).map((layer) => layer.chainId)));
  const containers = store.containers();
  for (const { chainId } of containers) for (const layer of store.layersOf(chainId)) chains.add(layer.chainId);
  const count = (path: string): number => readdirSync(join(store.root, path)).length;
  const { name } = store.driver;
  assert.ok((await store.driver.list()).length >= chains.size + containers.length, "a layer is missing in the driver");
  assert.equal(count(`records/${name}`), (await store.driver.list()).length - containers.length, "records");
  assert.equal(count("blobs/sha256"), images.length, "blobs");
  for (const owner of readdirSync(join(store.root, "tmp")))
    assert.ok(existsSync(join(store.root, "locks", name, owner)), `tmp/${owner} is of no living process`);
  assert.deepEqual(
    readdirSync(join(store.root, "locks", name)).filter((file) => !file.startsWith("p-")),
    [],
    "locks",
  );
  const usage = await store.usage();
  const [du] = execFileSync("du", ["-s", "-B1", store.root], { encoding: "utf8" }).split("\t");
  assert.equal(usage.totalBytes, Number(du));
}
