/**
 * Docker's layerdb, beneath `image/<driver>/layerdb/`:
 *
 *     sha256/<chain ID>/{diff,parent,cache-id,size,tar-split.json.gz}   a layer of an image
 *     sha256/<chain ID>-<random>-removing/                              one being deleted
 *     mounts/<container ID>/{mount-id,init-id,parent}                   the writable layer of a container
 *     tmp/                                                              layers being made
 *
 * Docker passes over what it cannot read without a word (the image is then gone). Here it is told.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import type { RootDir } from "../../fs/root-dir.ts";
import { type ChainId, chainIdOf, type DiffId, parseChainId, parseDiffId } from "../../oci/digest.ts";
import { namesBeneath, readBeneath } from "./small-file.ts";
import { checkLayerName, damaged } from "./trees.ts";

export interface DockerLayer {
  readonly chainId: ChainId;
  readonly diffId: DiffId;
  readonly parent: ChainId | undefined;
  readonly cacheId: string;
  /** Bytes that Docker counts for it. */
  readonly sizeBytes: number;
  /** Path of its tar-split beneath the root, where it has one. */
  readonly splitPath: string | undefined;
}

export interface DockerMount {
  readonly containerId: string;
  readonly mountId: string;
  readonly initId: string | undefined;
  readonly parent: ChainId | undefined;
}

/** What could not be read: its name, and why. */
export interface DockerProblem {
  readonly subject: string;
  readonly message: string;
}

export interface LayerDb {
  readonly layers: ReadonlyMap<ChainId, DockerLayer>;
  readonly mounts: ReadonlyMap<string, DockerMount>;
  readonly problems: readonly DockerProblem[];
}

/** Reads the layerdb at `base` beneath a root. */
export function readLayerDb(root: RootDir, base: string): LayerDb {
  const layers = new Map<ChainId, DockerLayer>();
  const mounts = new Map<string, DockerMount>();
  const problems: DockerProblem[] = [];
  const collect = (subject: string, read: () => void): void => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof LamellaError)) throw error;
      problems.push({ subject, message: error.message });
    }
  };
  for (const hex of namesBeneath(root, `${base}/sha256`)) {
    if (!/^[0-9a-f]{64}$/.test(hex)) continue;
    const chainId = parseChainId(`sha256:${hex}`);
    collect(chainId, () => layers.set(chainId, readLayer(root, `${base}/sha256/${hex}`, chainId)));
  }
  for (const id of namesBeneath(root, `${base}/mounts`)) {
    if (!/^[0-9a-f]{64}$/.test(id)) continue;
    collect(id, () => mounts.set(id, readMount(root, `${base}/mounts/${id}`, id)));
  }
  return { layers, mounts, problems };
}

function readLayer(root: RootDir, path: string, chainId: ChainId): DockerLayer {
  const text = (name: string): string | undefined => readBeneath(root, `${path}/${name}`)?.toString("latin1").trim();
  const needed = (name: string): string => {
    const value = text(name);
    if (value === undefined || value === "") throw damaged(chainId, `its file \`${name}\` is missing or empty`);
    return value;
  };
  const diffId = parseDiffId(needed("diff"));
  const parentText = text("parent");
  const parent = parentText === undefined ? undefined : parseChainId(parentText);
  if (chainIdOf(parent, diffId) !== chainId) throw damaged(chainId, "its diff ID and parent make another chain ID");
  const sizeText = needed("size");
  if (!/^[0-9]{1,15}$/.test(sizeText)) throw damaged(chainId, "its file `size` is no number");
  const splitPath = `${path}/tar-split.json.gz`;
  return {
    chainId,
    diffId,
    parent,
    cacheId: checkLayerName(needed("cache-id")),
    sizeBytes: Number(sizeText),
    splitPath: root.stat(splitPath, { escape: "refuse", symlinks: "refuse" }) === undefined ? undefined : splitPath,
  };
}

function readMount(root: RootDir, path: string, containerId: string): DockerMount {
  const text = (name: string): string | undefined => readBeneath(root, `${path}/${name}`)?.toString("latin1").trim();
  const mountId = text("mount-id");
  if (mountId === undefined) throw damaged(containerId, "its file `mount-id` is missing");
  const initId = text("init-id");
  const parent = text("parent");
  return {
    containerId,
    mountId: checkLayerName(mountId),
    initId: initId ? checkLayerName(initId) : undefined,
    parent: parent ? parseChainId(parent) : undefined,
  };
}
