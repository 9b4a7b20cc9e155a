/**
 * Trees of layers in the places and with the owners and modes that Docker's drivers give them, for layers that Lamella writes
 * into Docker's root. See ./trees.ts for the places.
 */
import { randomBytes } from "node:crypto";
import type { ApplyTarget, OverlayXattrPrefix } from "../../diff/source.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { copyTreeInBackground, linkTreeInBackground } from "../../fs/tree-jobs.ts";
import { walkTree } from "../../fs/walk.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { readSmall } from "./small-file.ts";
import { checkLayerName, damaged } from "./trees.ts";

/** A driver that new layers can be written for. */
export interface NewTrees {
  /** Makes the tree of a new layer, to be filled through what it answers. */
  create(cacheId: string, parentCacheId: string | undefined): Promise<ApplyTarget>;
  /** What Docker counts for a filled layer; `contentBytes`: sum of the sizes of the files in its tar. */
  sizeOf(cacheId: string, contentBytes: number): Promise<number>;
  /** Removes a layer's tree, whole or not. Idempotent. */
  remove(cacheId: string): void;
}

/** By the name of the driver. */
export const newTreesOf: Readonly<Record<string, (home: ByteString, prefix: OverlayXattrPrefix) => NewTrees>> = {
  overlay2: (home, prefix) => newLinkedTrees(home, { whiteouts: "overlay", prefix }),
  "fuse-overlayfs": (home, prefix) => newLinkedTrees(home, { whiteouts: "aufs", prefix, marks: "any" }),
  overlay: newOverlayTrees,
  vfs: newVfsTrees,
};

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** Layers over those that their files `lower` name by links. */
function newLinkedTrees(home: ByteString, form: Omit<ApplyTarget, "root" | "lowers">): NewTrees {
  makeDirectory(home, 0o710);
  makeDirectory(`${home}/l`, 0o700);
  const linkOf = (id: string): string => {
    const link = readSmall(`${home}/${checkLayerName(id)}/link`);
    if (link === undefined || !/^[A-Z2-7]{26}$/.test(link)) throw damaged(id, "its file `link` is missing or wrong");
    return `l/${link}`;
  };
  const lowersOf = (id: string): string[] => {
    const lower = readSmall(`${home}/${id}/lower`);
    const names = lower === undefined || lower === "" ? [] : lower.split(":");
    for (const name of names) if (!/^l\/[A-Z2-7]{26}$/.test(name)) throw damaged(id, "its file `lower` is wrong");
    return names;
  };
  return {
    create: async (id, parent) => {
      const lowers = parent === undefined ? [] : [linkOf(parent), ...lowersOf(parent)];
      const link = [...randomBytes(26)].map((byte) => alphabet[byte % 32]).join("");
      const layer = `${home}/${id}`;
      directory(layer, 0o710);
      directory(`${layer}/diff`, 0o755);
      write(`${layer}/link`, link, 0o644);
      sys.symlinkat(`../${id}/diff`, AT_FDCWD, `${home}/l/${link}`);
      if (parent !== undefined) {
        write(`${layer}/lower`, lowers.join(":"), 0o644);
        directory(`${layer}/work`, 0o700);
        write(`${home}/${parent}/committed`, "", 0o600);
      }
      // The names under `l/` lead to the layers' own directories.
      return { ...form, root: `${layer}/diff`, lowers: lowers.map((name) => `${home}/${name}`) };
    },
    sizeOf: async (id) => (await walkTree(`${home}/${id}/diff`, { oneFileSystem: true })).sizeBytes,
    remove: (id) => {
      const link = readSmall(`${home}/${checkLayerName(id)}/link`);
      if (link !== undefined && /^[A-Z2-7]{26}$/.test(link)) sys.unlinkIfExists(AT_FDCWD, `${home}/l/${link}`);
      removeTree(`${home}/${id}`);
    },
  };
}

/** Trees of hard links. Applying a layer replaces files, it never writes to one that another tree has. */
function newOverlayTrees(home: ByteString): NewTrees {
  makeDirectory(home, 0o710);
  return {
    create: async (id, parent) => {
      const root = `${home}/${id}/root`;
      directory(`${home}/${id}`, 0o710);
      directory(root, 0o755);
      if (parent !== undefined) await linkTreeInBackground(`${home}/${checkLayerName(parent)}/root`, root);
      return { whiteouts: "remove", root, lowers: [], prefix: "trusted.overlay." };
    },
    sizeOf: async (_, contentBytes) => contentBytes,
    remove: (id) => void removeTree(`${home}/${checkLayerName(id)}`),
  };
}

function newVfsTrees(home: ByteString): NewTrees {
  makeDirectory(home, 0o710);
  makeDirectory(`${home}/dir`, 0o710);
  return {
    create: async (id, parent) => {
      const root = `${home}/dir/${id}`;
      if (parent === undefined) directory(root, 0o755);
      else await copyTreeInBackground(`${home}/dir/${checkLayerName(parent)}`, root);
      return { whiteouts: "remove", root, lowers: [], prefix: "trusted.overlay." };
    },
    sizeOf: async (_, contentBytes) => contentBytes,
    remove: (id) => void removeTree(`${home}/dir/${checkLayerName(id)}`),
  };
}

/** Makes a directory with exactly that mode. */
function directory(path: ByteString, mode: number): void {
  sys.mkdirat(AT_FDCWD, path, mode);
  sys.lchmodat(AT_FDCWD, path, mode);
}

function write(path: ByteString, content: ByteString, mode: number): void {
  using file = sys.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  sys.writeAll(file.fd, Buffer.from(content, "latin1"));
}
