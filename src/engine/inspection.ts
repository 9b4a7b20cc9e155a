/** What `inspect` and `history` show, in the words of Docker's Engine API (its version 1.41, `ImageInspect`). */
import { realpathSync } from "node:fs";
import type { Driver, LayerId } from "../drivers/driver.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";
import { encodeConfig, type HistoryEntry, type ImageConfig } from "../oci/config.ts";
import type { ContainerRecord, ImageRecord, LayerRecord } from "../store/types.ts";

export interface GraphDriverData {
  readonly Name: string;
  readonly Data: Readonly<Record<string, string>>;
}

/** An image as `docker inspect` shows it. */
export interface ImageInspection {
  readonly Id: string;
  readonly RepoTags: readonly string[];
  readonly RepoDigests: readonly string[];
  readonly Parent: string;
  readonly Comment: string;
  readonly Created: string;
  readonly DockerVersion: string;
  readonly Author: string;
  readonly Config: unknown;
  readonly Architecture: string;
  readonly Variant?: string;
  readonly Os: string;
  readonly Size: number;
  readonly GraphDriver: GraphDriverData;
  readonly RootFS: { readonly Type: "layers"; readonly Layers: readonly string[] };
}

/** A container: a writable layer on an image. */
export interface ContainerInspection {
  readonly Id: string;
  readonly Created: string;
  readonly Name: string;
  readonly Image: string;
  readonly Driver: string;
  readonly GraphDriver: GraphDriverData;
}

/** One step of an image's history, the newest first as Docker lists them. */
export interface HistoryItem {
  /** The image's ID for the newest step; steps below have none of their own. */
  readonly id: string | undefined;
  readonly createdAt: string | undefined;
  readonly createdBy: string;
  readonly comment: string;
  /** Tar bytes of the step's layer; 0 for a step without one. */
  readonly sizeBytes: number;
  readonly diffId: string | undefined;
  readonly chainId: string | undefined;
  readonly tags: readonly string[];
}

export function inspectImage(
  image: ImageRecord,
  config: ImageConfig,
  tags: readonly string[],
  graphDriver: GraphDriverData,
): ImageInspection {
  return {
    Id: image.id,
    RepoTags: tags,
    RepoDigests: [],
    Parent: "",
    Comment: config.comment ?? "",
    Created: image.createdAt,
    DockerVersion: config.docker_version ?? "",
    Author: config.author ?? "",
    Config: (JSON.parse(encodeConfig(config).toString("utf8")) as { config?: unknown }).config ?? {},
    Architecture: config.architecture,
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Os: config.os,
    Size: image.sizeBytes,
    GraphDriver: graphDriver,
    RootFS: { Type: "layers", Layers: config.rootfs.diff_ids },
  };
}

export function inspectContainer(container: ContainerRecord, graphDriver: GraphDriverData): ContainerInspection {
  return {
    Id: container.id,
    Created: container.createdAt,
    Name: container.name === undefined ? "" : `/${container.name}`,
    Image: container.image,
    Driver: graphDriver.Name,
    GraphDriver: graphDriver,
  };
}

/** Where a layer's directories lie, under the names Docker's overlay2 and vfs give them. */
export async function graphDriverOf(
  driver: Driver,
  layerId: LayerId | undefined,
  options: { readonly readOnly: boolean },
): Promise<GraphDriverData> {
  if (layerId === undefined) return { Name: driver.name, Data: {} };
  await using use = await driver.view(layerId, options);
  const view = use.value;
  if (view.kind === "directory") return { Name: driver.name, Data: { RootDir: textOfBytes(view.path) } };
  const [first, ...others] = view.lowers;
  const upper = view.upper ?? first;
  const lowers = view.upper === undefined ? others : view.lowers;
  const data: Record<string, string> = {};
  if (lowers.length > 0) data.LowerDir = lowers.map(realPath).join(":");
  if (upper !== undefined) data.UpperDir = realPath(upper);
  if (view.work !== undefined) data.WorkDir = textOfBytes(view.work);
  return { Name: driver.name, Data: data };
}

/** Without the short links that mounts are made with. */
function realPath(path: ByteString): string {
  const real = realpathSync(Buffer.from(path, "latin1"), { encoding: "buffer" });
  return textOfBytes(real.toString("latin1"));
}

/** Pairs the steps of a config with its layers. Layers without a step (a history may be short) come last. */
export function historyOf(
  image: ImageRecord,
  config: ImageConfig,
  layers: readonly LayerRecord[],
  tags: readonly string[],
): HistoryItem[] {
  const unnamed: HistoryEntry = {};
  let nextLayer = 0;
  const steps = (config.history ?? []).map((entry) => ({
    entry,
    layer: entry.empty_layer === true ? undefined : layers[nextLayer++],
  }));
  const rest = layers.slice(nextLayer).map((layer) => ({ entry: unnamed, layer }));
  const items = [...steps, ...rest].map(({ entry, layer }) => ({
    id: undefined as string | undefined,
    createdAt: entry.created,
    createdBy: entry.created_by ?? "",
    comment: entry.comment ?? "",
    sizeBytes: layer?.tarSizeBytes ?? 0,
    diffId: layer?.diffId,
    chainId: layer?.chainId,
    tags: [] as readonly string[],
  }));
  items.reverse();
  if (items[0] !== undefined) items[0] = { ...items[0], id: image.id, tags };
  return items;
}
