/** What tests of moves share: a small store with everything that layers can hold, and all that must be equal after a move. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listChanges } from "../../src/diff/export-layer.ts";
import { Store } from "../../src/store/store.ts";
import { sh } from "./overlay-lab.ts";
import { snapshot } from "./tree-snapshot.ts";

export type DriverOptions = Readonly<Record<string, string>>;

/** Bytes of the files of the base image that are large enough to be shared. */
export const sharedBaseBytes = 300_000;

const base = `
  mkdir -p etc/gone etc/replaced/deep usr/share var
  printf one > etc/one; printf keep > etc/keep; printf lost > etc/gone/lost; printf old > etc/replaced/deep/old
  chmod 4755 usr; ln etc/one etc/one-again; ln -s ../etc usr/etc; mkfifo var/fifo; chown 12:34 etc/keep
  chmod 1777 var; touch -d @1000000000.123456789 etc/keep`;
const second = `
  printf ONE > etc/one; rm -r etc/gone; rm etc/one-again; chmod 600 usr/share/large
  rm -r etc/replaced; mkdir etc/replaced; printf new > etc/replaced/new
  mkdir opt; printf more > opt/more; ln opt/more opt/more-again`;
const inContainer = `
  printf added > added; printf changed > etc/keep; rm etc/one; rm -r opt; mkdir opt; printf other > opt/other
  chmod 640 usr/share/other; mkdir -p deep/er; ln -s nowhere deep/er/link; mkfifo deep/pipe; rm usr/etc; mkdir usr/etc
  ln added added-again; chown 5:6 var`;

/** Fills a store: an image of one layer, one on top of it, and a container with a writable layer of its own. */
export async function fillStore(store: Store): Promise<void> {
  const tree = mkdtempSync(join(tmpdir(), "lamella-tree-"));
  try {
    sh(base, tree);
    for (const [index, name] of ["large", "other"].entries())
      writeFileSync(join(tree, "usr/share", name), Buffer.alloc(sharedBaseBytes / 2, `${index} content `));
    await store.importRoot({ kind: "directory", path: tree }, { tags: ["app:1"], createdAt: "2020-01-02T03:04:05Z" });
  } finally {
    rmSync(tree, { recursive: true });
  }
  const step = await store.createContainer({ image: "app:1" });
  await change(store, step.id, second);
  await store.commitContainer(step.id, { tags: ["app:2", "app:latest"], createdAt: "2020-01-02T03:04:05Z" });
  await store.removeContainer(step.id);
  await store.createContainer({ image: "app:2", name: "box" });
  await change(store, "box", inContainer);
}

/** Runs a shell script in a container's root file system. */
export async function change(store: Store, container: string, script: string): Promise<void> {
  await using mounted = await store.driver.mount(store.container(container).layerId);
  sh(script, mounted.path);
}

/** All that a move must keep. */
export interface StoreFacts {
  readonly images: readonly string[];
  readonly layers: readonly string[];
  /** SHA-256 of the archive of all images. */
  readonly saved: string;
  /** Of each container: what it is, its changes as `diff` lists them, and its whole tree. */
  readonly containers: readonly { readonly who: string; readonly changes: string[]; readonly tree: string[] }[];
}

/** Reads them from a store, which must be whole. `wholeSeconds`: times are told without fractions. */
export async function factsOf(store: Store, options: { readonly wholeSeconds?: boolean } = {}): Promise<StoreFacts> {
  assert.deepEqual((await store.check({ deep: true })).findings, []);
  const containers: StoreFacts["containers"][number][] = [];
  for (const { id, name, image, createdAt, layerId } of store.containers()) {
    await using source = await store.driver.diffSource(layerId);
    const changes = (await listChanges(source.value)).map(({ kind, path }) => `${kind} ${path}`).sort();
    await using mounted = await store.driver.mount(layerId, { readOnly: true });
    const shown = (line: string): string => (options.wholeSeconds ? line.replace(/ (\d+)\.\d+ /, " $1 ") : line);
    const tree = [...snapshot(mounted.path).lines].map(([path, line]) => `${path}: ${shown(line)}`).sort();
    containers.push({ who: `${id} ${name} ${image} ${createdAt}`, changes, tree });
  }
  return {
    images: store.images().map(({ id, tags }) => `${id} ${tags.join(" ")}`),
    layers: store.layers().map(({ chainId, diffId, tarSizeBytes }) => `${chainId} ${diffId} ${tarSizeBytes}`),
    saved: await savedDigest(store),
    containers,
  };
}

async function savedDigest(store: Store): Promise<string> {
  const hash = createHash("sha256");
  const names = store.images().flatMap(({ tags }) => tags);
  await store.save(names.sort(), { write: async (chunk) => void hash.update(chunk) });
  return hash.digest("hex");
}

/** Opens a store that flushes nothing; makes its directory. */
export async function openAt(root: string, driver?: string, driverOptions?: DriverOptions): Promise<Store> {
  mkdirSync(root, { recursive: true });
  return Store.open({ root, driver, driverOptions, durable: false });
}
