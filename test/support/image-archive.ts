/**
 * Docker archives as plain data, read and written without the store: what the tests compare images by. An image here is
 * small, so all of it is held in memory.
 */
import { createHash } from "node:crypto";
import { TarReader, TarWriter } from "../../src/tar/index.ts";
import { type FlatTree, flatten } from "./flat-tree.ts";

type Json = { readonly [key: string]: unknown };

export interface ArchivedImage {
  /** The config, parsed. */
  readonly config: Json;
  /** `sha256:…` of the config's bytes. */
  readonly id: string;
  readonly tags: readonly string[];
  /** Uncompressed tars, the lowest first. */
  readonly layers: readonly Buffer[];
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** The members of a tar by name; symbolic links (as `docker save` makes for shared layers) are followed. */
export function tarMembers(tar: Uint8Array): Map<string, Buffer> {
  const members = new Map<string, Buffer>();
  const links = new Map<string, string>();
  let chunks: Buffer[] = [];
  const reader = new TarReader({
    entry: (entry) => {
      chunks = [];
      if (entry.type !== "symlink") return;
      const base = new URL(entry.name, "file:///");
      links.set(entry.name, new URL(entry.linkName, base).pathname.slice(1));
    },
    data: (bytes) => void chunks.push(Buffer.from(bytes)),
    endEntry: (entry) => {
      if (entry.type === "file") members.set(entry.name, Buffer.concat(chunks));
    },
  });
  reader.push(tar);
  reader.end();
  for (const [name, target] of links) {
    const member = members.get(target);
    if (member !== undefined) members.set(name, member);
  }
  return members;
}

/** Reads the images of a docker archive and verifies what their configs say of their layers. */
export function readDockerArchive(archive: Uint8Array): ArchivedImage[] {
  const members = tarMembers(archive);
  const member = (name: string): Buffer => {
    const bytes = members.get(name);
    if (bytes === undefined) throw new Error(`docker archive: no ${name} in it`);
    return bytes;
  };
  const manifest = JSON.parse(member("manifest.json").toString("utf8")) as {
    readonly Config: string;
    readonly RepoTags: readonly string[] | null;
    readonly Layers: readonly string[];
  }[];
  return manifest.map(({ Config, RepoTags, Layers }) => {
    const bytes = member(Config);
    const image = {
      config: JSON.parse(bytes.toString("utf8")) as Json,
      id: sha256(bytes),
      tags: RepoTags ?? [],
      layers: Layers.map(member),
    };
    const told = diffIdsOf(image).join("\n");
    if (image.layers.map(sha256).join("\n") !== told)
      throw new Error(`docker archive: layers are not those of ${Config}`);
    return image;
  });
}

/** The only image of a docker archive. */
export function readOneImage(archive: Uint8Array): ArchivedImage {
  const [image, ...more] = readDockerArchive(archive);
  if (image === undefined || more.length > 0)
    throw new Error(`docker archive: ${more.length + 1} images, expected one`);
  return image;
}

export function diffIdsOf(image: Pick<ArchivedImage, "config">): readonly string[] {
  return (image.config.rootfs as { diff_ids: string[] | null }).diff_ids ?? [];
}

export function treeOf(image: ArchivedImage): FlatTree {
  return flatten(image.layers);
}

/** A docker archive of one image; the config gets the layers' diff IDs. */
export function dockerArchive(image: {
  readonly config: Json;
  readonly layers: readonly Uint8Array[];
  readonly tags: readonly string[];
}): Buffer {
  const rootfs = { type: "layers", diff_ids: image.layers.map(sha256) };
  const config = Buffer.from(JSON.stringify({ ...image.config, rootfs }));
  const configName = `${sha256(config).slice(7)}.json`;
  const layerNames = image.layers.map((layer, i) => `${i}-${sha256(layer).slice(7)}/layer.tar`);
  const manifest = [{ Config: configName, RepoTags: image.tags, Layers: layerNames }];
  return tarOf([
    ...image.layers.map((content, i) => ({ name: layerNames[i] ?? "", content })),
    { name: configName, content: config },
    { name: "manifest.json", content: Buffer.from(JSON.stringify(manifest)) },
  ]);
}

/** What an entry of a tar made by hand needs to say; the rest has defaults: root's, 0644 or 0755, of the year 2001. */
export interface TarMember {
  readonly name: string;
  readonly type?: "file" | "directory" | "symlink" | "hardlink" | "char" | "fifo" | undefined;
  readonly content?: Uint8Array | string | undefined;
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly linkName?: string | undefined;
  readonly device?: readonly [major: number, minor: number] | undefined;
  readonly xattrs?: Readonly<Record<string, Uint8Array>> | undefined;
}

/** Modification time of members made by hand, seconds since 1970. */
export const memberTimeSec = 1_000_000_000;

export function tarOf(members: readonly TarMember[]): Buffer {
  const writer = new TarWriter();
  const blocks: Uint8Array[] = [];
  for (const member of members) {
    const type = member.type ?? "file";
    const content = Buffer.from(member.content ?? "");
    const header = {
      name: Buffer.from(member.name).toString("latin1"),
      type,
      mode: member.mode ?? (type === "directory" ? 0o755 : type === "symlink" ? 0o777 : 0o644),
      uid: member.uid ?? 0,
      gid: member.gid ?? 0,
      size: content.length,
      mtimeSec: memberTimeSec,
      linkName: member.linkName,
      devMajor: member.device?.[0],
      devMinor: member.device?.[1],
      xattrs: new Map(Object.entries(member.xattrs ?? {})),
    };
    blocks.push(writer.header(header), content, writer.padding(content.length));
  }
  blocks.push(writer.end());
  return Buffer.concat(blocks);
}
