/**
 * Where Docker's storage drivers keep the trees of layers, as read from outside. A *cache ID* names an image's layer in the
 * driver's directory, a *mount ID* a container's writable layer, `<mount ID>-init` the layer between it and its image in
 * which Docker makes /dev/console, /etc/hosts and such.
 *
 *     overlay2/<id>/{diff/,link,lower}, overlay2/l/<26 characters> -> ../<id>/diff
 *     overlay/<id>/root/ for images; overlay/<id>/{upper/,lower-id} for containers
 *     vfs/dir/<id>/
 *     btrfs/subvolumes/<id>/
 *     aufs/diff/<id>/, aufs/layers/<id> (the IDs below, one a line, the nearest first)
 *     fuse-overlayfs/<id>/ as overlay2, with whiteouts as aufs has them
 *
 * What BuildKit caches lies in the same directories under names that no layerdb refers to; nobody looks at those here.
 */
import type { ContentSource, DiffSource, OverlayXattrPrefix } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import type { LayerMarks } from "../../overlayfs/layer-marks.ts";
import { AT_FDCWD, S_IFDIR, S_IFMT } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { readSmall } from "./small-file.ts";

/** The trees of one driver. All methods throw data_loss (DOCKER_LAYER) for a layer that is not there or damaged. */
export interface DockerTrees {
  /** Where the files of an image's layer are found: its own directory (or whole tree) first. */
  content(cacheId: string): ContentSource;
  /** The changes of an image's layer to the one below it. */
  changes(cacheId: string, parentCacheId: string | undefined): DiffSource;
  /** The changes of a container to its `-init` layer, or to its image where it has none. */
  containerChanges(mount: ContainerMount): DiffSource;
}

/** What the layerdb says of a container's layer. */
export interface ContainerMount {
  readonly mountId: string;
  readonly initId: string | undefined;
  /** Of the image's uppermost layer. */
  readonly parentCacheId: string | undefined;
}

/** The drivers whose directories are understood, by the names of their directories. */
export const treesOf: Readonly<Record<string, (home: ByteString, prefix: OverlayXattrPrefix) => DockerTrees>> = {
  overlay2: (home, prefix) => linkedTrees(home, { prefix }),
  "fuse-overlayfs": (home, prefix) => linkedTrees(home, { prefix, marks: "any" }),
  overlay: (home, prefix) => overlayTrees(home, prefix),
  vfs: (home) => plainTrees(`${home}/dir`),
  btrfs: (home) => plainTrees(`${home}/subvolumes`),
  aufs: (home, prefix) => branches(home, { prefix, marks: "any" }),
};

const idPattern = /^[0-9A-Za-z_-]{1,128}$/;

/** Errors: data_loss for what is no name of a layer. */
export function checkLayerName(text: string): string {
  if (idPattern.test(text)) return text;
  throw damaged(text, "its name in the driver is none");
}

/** The directory, seen to be one. A symbolic link in its place would lead anywhere. */
function directory(id: string, path: ByteString): ByteString {
  const stat = sys.statIfExists(AT_FDCWD, path);
  if (stat === undefined) throw damaged(id, `${textOfBytes(path)} is missing`);
  if ((stat.mode & S_IFMT) !== S_IFDIR) throw damaged(id, `${textOfBytes(path)} is no directory`);
  return path;
}

/** Layers over those that their files `lower` name by links. */
function linkedTrees(home: ByteString, marks: LayerMarks): DockerTrees {
  const diffOf = (id: string): ByteString => {
    directory(id, `${home}/${checkLayerName(id)}`);
    return directory(id, `${home}/${id}/diff`);
  };
  const lowersOf = (id: string): ByteString[] => {
    const lower = readSmall(`${home}/${id}/lower`);
    if (lower === undefined || lower === "") return [];
    return lower.split(":").map((name) => {
      if (!/^l\/[A-Z2-7]{26}$/.test(name)) throw damaged(id, "its file `lower` is wrong");
      const target = raw.readlinkat(AT_FDCWD, `${home}/${name}`);
      const below = typeof target === "string" ? /^\.\.\/([^/]+)\/diff$/.exec(target)?.[1] : undefined;
      if (below === undefined) throw damaged(id, `${name}, a layer below it, is missing`);
      return diffOf(below);
    });
  };
  return stackedTrees(marks, diffOf, lowersOf);
}

/** Branches of aufs, over those that the files in `layers/` list. */
function branches(home: ByteString, marks: LayerMarks): DockerTrees {
  const diffOf = (id: string): ByteString => directory(id, `${home}/diff/${checkLayerName(id)}`);
  const lowersOf = (id: string): ByteString[] =>
    (readSmall(`${home}/layers/${checkLayerName(id)}`) ?? "").split("\n").filter(Boolean).map(diffOf);
  return stackedTrees(marks, diffOf, lowersOf);
}

function stackedTrees(
  marks: LayerMarks,
  diffOf: (id: string) => ByteString,
  lowersOf: (id: string) => ByteString[],
): DockerTrees {
  const upper = (id: string): DiffSource => ({ kind: "upper", upper: diffOf(id), lowers: lowersOf(id), ...marks });
  return {
    content: (id) => ({ layers: [diffOf(id), ...lowersOf(id)], ...marks }),
    changes: upper,
    containerChanges: ({ mountId }) => upper(mountId),
  };
}

function overlayTrees(home: ByteString, prefix: OverlayXattrPrefix): DockerTrees {
  const inside = (id: string, name: string): ByteString => {
    directory(id, `${home}/${checkLayerName(id)}`);
    return directory(id, `${home}/${id}/${name}`);
  };
  const root = (id: string): ByteString => inside(id, "root");
  return {
    content: (id) => ({ layers: [root(id)], prefix }),
    changes: (id, parent) => ({ kind: "trees", parent: parent && root(parent), tree: root(id) }),
    containerChanges: ({ mountId }) => {
      const lower = readSmall(`${home}/${checkLayerName(mountId)}/lower-id`);
      return { kind: "upper", upper: inside(mountId, "upper"), lowers: lower ? [root(lower)] : [], prefix };
    },
  };
}

/** Drivers whose layers are whole trees of their own. */
function plainTrees(home: ByteString): DockerTrees {
  const tree = (id: string): ByteString => directory(id, `${home}/${checkLayerName(id)}`);
  const changes = (id: string, parent: string | undefined): DiffSource => ({
    kind: "trees",
    parent: parent && tree(parent),
    tree: tree(id),
  });
  return {
    content: (id) => ({ layers: [tree(id)], prefix: "trusted.overlay." }),
    changes,
    containerChanges: ({ mountId, initId, parentCacheId }) => changes(mountId, initId ?? parentCacheId),
  };
}

/** The error for a layer of Docker's that is not as Docker left it. */
export function damaged(id: string, what: string): LamellaError {
  const shown = id.length > 80 ? `${id.slice(0, 80)}…` : id;
  return new LamellaError("data_loss", "DOCKER_LAYER", `Docker's layer ${JSON.stringify(shown)}: ${what}`);
}
