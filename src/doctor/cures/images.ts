/** What of a Docker's images has to be carried to another driver, and what that takes. */
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { isLamellaError } from "../../errors/lamella-error.ts";
import { DockerRoot } from "../../migrate/docker-root/docker-root.ts";
import { treesOf } from "../../migrate/docker-root/trees.ts";
import { getJson } from "../collect/unix-http.ts";
import type { DockerFacts } from "../facts.ts";
import type { PlanRequest } from "./request.ts";

export interface ImagesToCarry {
  /** Layers can be read from the data root; else only the engine can. */
  readonly readable: boolean;
  /** IDs of the images that `docker images` lists; empty where no daemon runs. */
  readonly ids: readonly string[];
  /** Tags, and IDs of images without one. */
  readonly names: readonly string[];
  /** Of all layers, about. */
  readonly bytes: number;
  /** Free where the data root lies. */
  readonly room: number;
  /** Bytes a second that can be written there. */
  readonly rate: number;
}

interface ListedImage {
  readonly Id: string;
  readonly RepoTags?: readonly string[] | null;
  readonly Size?: number;
}

export async function imagesOf({ facts, host }: PlanRequest, docker: DockerFacts): Promise<ImagesToCarry> {
  const { root, driver = "", socket, running } = docker;
  const listed =
    running && socket !== undefined
      ? ((await getJson(host.view.at(socket), "/images/json")) as readonly ListedImage[])
      : [];
  const readable = treesOf[driver] !== undefined;
  return {
    readable,
    ids: listed.map(({ Id }) => Id),
    names: listed.flatMap(({ Id, RepoTags }) => {
      const tags = (RepoTags ?? []).filter((tag) => !tag.startsWith("<none>"));
      return tags.length > 0 ? tags : [Id];
    }),
    bytes:
      (readable ? layerBytes(host.view.at(root), driver) : undefined) ??
      listed.reduce((sum, { Size = 0 }) => sum + Size, 0),
    room: facts.roots[root]?.availableBytes ?? 0,
    rate: facts.host.uid === 0 ? writeRate(host.view.at(root)) : 100e6,
  };
}

/** Seconds to carry them, about: read and unpacked, packed and unpacked again. */
export function moveSeconds({ bytes, rate }: ImagesToCarry): number {
  return Math.ceil((2 * bytes) / rate) + 2;
}

function layerBytes(path: string, driver: string): number | undefined {
  try {
    using root = DockerRoot.open({ path, driver, lookOnly: true });
    return [...root.read().layers.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  } catch (error) {
    if (isLamellaError(error)) return undefined;
    throw error;
  }
}

const sampleBytes = 16 << 20;

/** Writes 16 MiB and times it. */
function writeRate(directory: string): number {
  const path = `${directory}/.lamella-doctor-rate-${randomBytes(4).toString("hex")}`;
  const file = openSync(path, "wx", 0o600);
  try {
    const sample = randomBytes(1 << 20);
    const start = performance.now();
    for (let written = 0; written < sampleBytes; written += sample.length) writeSync(file, sample);
    fsyncSync(file);
    return sampleBytes / Math.max(0.001, (performance.now() - start) / 1000);
  } finally {
    closeSync(file);
    rmSync(path);
  }
}
