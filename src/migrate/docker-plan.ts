/** What of a Docker root is brought over, and what cannot be. */
import { type ChainId, chainIdsOf } from "../oci/digest.ts";
import type { DockerContents } from "./docker-root/docker-root.ts";
import type { DockerImage } from "./docker-root/image-db.ts";
import type { DockerLayer } from "./docker-root/layer-db.ts";
import type { Note } from "./report.ts";

export interface DockerPlan {
  readonly images: readonly DockerImage[];
  readonly containers: DockerContents["containers"];
  /** The layers that these need, those below before those on top. */
  readonly layers: readonly DockerLayer[];
  readonly leftOut: readonly Note[];
  readonly notes: readonly Note[];
}

/** The tag, or the ID of an image without one. */
export function nameOfImage({ id, tags }: DockerImage): string {
  return tags[0] ?? id;
}

/**
 * Plans to bring over all images that have a tag, or a container, or that no other image was built from, and all containers.
 * `maxDepth`: the most layers the destination stacks.
 */
export function planDockerImport(contents: DockerContents, maxDepth: number): DockerPlan {
  const leftOut: Note[] = contents.problems.map(({ subject, message }) => ({ subject, message }));
  const needed = new Map<ChainId, DockerLayer>();
  /** Notes a chain as needed; what is wrong with it otherwise. */
  const need = (chainId: ChainId | undefined): string | undefined => {
    const chain: DockerLayer[] = [];
    for (let at = chainId; at !== undefined && !needed.has(at); ) {
      const layer = contents.layers.get(at);
      if (layer === undefined) return `its layer ${at} is missing or damaged`;
      chain.push(layer);
      at = layer.parent;
    }
    for (const layer of chain.reverse()) needed.set(layer.chainId, layer);
    return undefined;
  };

  const parents = new Set([...contents.images.values()].map(({ parent }) => parent));
  const used = new Set(contents.containers.map(({ image }) => image));
  const wanted = [...contents.images.values()].filter(
    ({ id, tags }) => tags.length > 0 || used.has(id) || !parents.has(id),
  );
  const images = wanted.filter((image) => {
    const chain = chainIdsOf(image.config.rootfs.diff_ids);
    const tooDeep = `it has ${chain.length} layers, the store's driver stacks ${maxDepth}`;
    const message = chain.length > maxDepth ? tooDeep : need(chain.at(-1));
    if (message !== undefined) leftOut.push({ subject: nameOfImage(image), message });
    return message === undefined;
  });
  const known = new Set(images.map(({ id }) => id));
  const containers = contents.containers.filter(({ id, name, image, mount }) => {
    const message = known.has(image) ? need(mount.parent) : `container: its image ${image} is not there`;
    if (message !== undefined) leftOut.push({ subject: name ?? id, message });
    return message === undefined;
  });

  const intermediate = contents.images.size - wanted.length;
  const notes: Note[] = [];
  if (intermediate > 0)
    notes.push({
      subject: "images",
      message: `${intermediate} intermediate images, which only the classic builder's cache wants, stay behind`,
    });
  return { images, containers, layers: [...needed.values()], leftOut, notes };
}
