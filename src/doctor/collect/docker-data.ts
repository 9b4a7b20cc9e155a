/**
 * What lies in Docker's data root, read only, as far as permissions go:
 *
 *     image/<driver>/layerdb/sha256/<chain ID>/{cache-id,diff,size,parent}   a layer; cache-id is its directory in the driver
 *     image/<driver>/layerdb/mounts/<container>/{mount-id,init-id,parent}    a container's own layers
 *     <driver>/...                                                           the driver's directories, see `layerFolders`
 *     buildkit/{snapshots,metadata_v2,cache,containerdmeta}.db               BuildKit's layers, in the same driver directories
 */
import type { DockerData, LayerCount } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import { hollowFiles } from "./hollow-files.ts";
import { findOrphans, orphanNames } from "./orphans.ts";
import { brokenLinks } from "./overlay2-links.ts";

/** Where a driver keeps one directory a layer. Of zfs and devicemapper there is none: layers are datasets and devices. */
const layerFolders: Readonly<Record<string, string>> = {
  overlay2: "overlay2",
  overlay: "overlay",
  "fuse-overlayfs": "fuse-overlayfs",
  vfs: "vfs/dir",
  btrfs: "btrfs/subvolumes",
  aufs: "aufs/diff",
};

const maxExamples = 3;

/** Layers that somebody refers to: the directories' names, and what of the layer store cannot be read. */
interface LayerStore {
  /** By directory name: the path of who refers to it. */
  readonly references: ReadonlyMap<string, string>;
  readonly deepestChain: number;
  readonly emptyMetadata: readonly string[];
  /** False when a part could not be read: then nothing can be called an orphan. */
  readonly complete: boolean;
}

const noStore: LayerStore = { references: new Map(), deepestChain: 0, emptyMetadata: [], complete: false };

/** Undefined when the root cannot be read or holds nothing of Docker's. `driver`: the daemon's. */
export function dockerData(host: HostView, root: string, driver?: string): DockerData | undefined {
  const names = host.names(`${root}/image`);
  if (names === undefined) return undefined;
  const drivers = names
    .map((name) => ({ driver: name, layers: host.names(`${root}/image/${name}/layerdb/sha256`)?.length ?? 0 }))
    .filter(({ layers }) => layers > 0);
  const chosen = driver ?? (drivers.length === 1 ? drivers[0]?.driver : undefined);
  const nothing: LayerCount = { count: 0, examples: [] };
  const base = { drivers, ...(chosen !== undefined && { driver: chosen }), ...loopFile(host, root) };
  const folder = layerFolders[chosen ?? ""];
  const store = chosen === undefined ? noStore : readLayerStore(host, `${root}/image/${chosen}/layerdb`);
  // In this order: Docker makes a directory before it lists the layer.
  const directories = folder === undefined ? undefined : host.names(`${root}/${folder}`);
  if (directories === undefined || folder === undefined)
    return {
      ...base,
      deepestChain: store.deepestChain,
      orphans: { ...nothing, sizeBytes: 0, sizeIsAtLeast: false },
      missing: nothing,
      emptyMetadata: countOf(store.emptyMetadata),
      brokenLinks: nothing,
      hollowFiles: nothing,
    };
  const layers = directories.filter((name) => name !== "l" || chosen !== "overlay2");
  const present = new Set(layers);
  const missing = [...store.references]
    // Listed still: a layer that is being removed leaves the list first.
    .filter(([name, by]) => !present.has(name) && host.exists(by))
    .map(([name, by]) => `${by}: no ${folder}/${name}`);
  return {
    ...base,
    deepestChain: store.deepestChain,
    orphans: store.complete
      ? findOrphans(host, { root, folder, layers, references: store.references })
      : { ...nothing, sizeBytes: 0, sizeIsAtLeast: false },
    missing: countOf(missing),
    emptyMetadata: countOf(store.emptyMetadata),
    brokenLinks: countOf(chosen === "overlay2" ? brokenLinks(host, `${root}/overlay2`, layers) : []),
    hollowFiles: countOf(chosen === "overlay2" ? hollowFiles(host, recordedLayers(root, store)) : []),
  };
}

/** Layers of images, with where their records are. Containers have none. */
function recordedLayers(root: string, { references }: LayerStore): { files: string; chain: string }[] {
  return [...references]
    .filter(([, by]) => by.includes("/layerdb/sha256/"))
    .map(([name, chain]) => ({ files: `${root}/overlay2/${name}/diff`, chain }));
}

/** All orphans of a driver, by their paths in the root; none where any of Docker's metadata is lost. */
export function orphanDirectories(host: HostView, root: string, driver: string | undefined): string[] {
  const folder = layerFolders[driver ?? ""];
  const layers = folder === undefined ? undefined : host.names(`${root}/${folder}`);
  if (folder === undefined || layers === undefined) return [];
  const { references, complete } = readLayerStore(host, `${root}/image/${driver}/layerdb`);
  if (!complete) return [];
  const named = layers.filter((name) => name !== "l" || driver !== "overlay2");
  return orphanNames(host, { root, folder, layers: named, references }).map((name) => `${folder}/${name}`);
}

export function countOf(all: readonly string[]): LayerCount {
  return { count: all.length, examples: all.slice(0, maxExamples) };
}

function loopFile(host: HostView, root: string): { loopFile?: string } {
  const path = `${root}/devicemapper/devicemapper/data`;
  return host.stat(path)?.isFile() ? { loopFile: path } : {};
}

function readLayerStore(host: HostView, layerdb: string): LayerStore {
  const references = new Map<string, string>();
  const parents = new Map<string, string | undefined>();
  const emptyMetadata: string[] = [];
  const unseenBefore = host.unseen.length;
  for (const chain of host.names(`${layerdb}/sha256`) ?? []) {
    if (!/^[0-9a-f]{64}$/.test(chain)) continue; // `-removing`: a layer on its way out
    const at = `${layerdb}/sha256/${chain}`;
    for (const name of ["cache-id", "diff", "size"])
      if (!host.text(`${at}/${name}`)?.trim()) emptyMetadata.push(`${at}/${name}`);
    const directory = host.text(`${at}/cache-id`)?.trim();
    if (directory) references.set(directory, at);
    parents.set(
      chain,
      host.exists(`${at}/parent`) ? host.text(`${at}/parent`)?.trim().replace("sha256:", "") : undefined,
    );
  }
  for (const container of host.names(`${layerdb}/mounts`) ?? []) {
    const at = `${layerdb}/mounts/${container}`;
    for (const name of ["mount-id", "init-id"]) {
      const directory = host.exists(`${at}/${name}`) ? host.text(`${at}/${name}`)?.trim() : undefined;
      if (directory) references.set(directory, at);
    }
  }
  const complete = host.unseen.length === unseenBefore && emptyMetadata.length === 0;
  return { references, deepestChain: deepest(parents), emptyMetadata, complete };
}

/** Length of the longest chain; one that runs in a circle or into nothing ends there. */
function deepest(parents: ReadonlyMap<string, string | undefined>): number {
  const depths = new Map<string, number>();
  for (const start of parents.keys()) {
    const path: string[] = [];
    for (
      let at: string | undefined = start;
      at !== undefined && parents.has(at) && !depths.has(at);
      at = parents.get(at)
    ) {
      if (path.includes(at)) break;
      path.push(at);
    }
    let depth = depths.get(parents.get(path.at(-1) ?? "") ?? "") ?? 0;
    for (const chain of path.reverse()) depths.set(chain, ++depth);
  }
  return Math.max(0, ...depths.values());
}
