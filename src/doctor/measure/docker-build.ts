/**
 * A small build with the daemon that runs, as it is set up now: five steps that copy a file each, on the image in question
 * or on the made tree, by the classic builder. Such steps run no command, so that what is timed is making layers.
 * What it adds to the daemon (images) is removed again.
 */
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { exportLayer } from "../../diff/export-layer.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { textOfBytes } from "../../lib/bytes.ts";
import { TarWriter } from "../../tar/writer.ts";
import { askDocker, askDockerJson, followDocker } from "./docker-api.ts";

const steps = 5;
/** A build longer than this is not done twice. */
const longMs = 4_000;
const labelName = "lamella.measure";
/** After a build was given up: how long nothing must come, and how long that is waited for at most. */
const quietMs = 2_500;
const longestTailMs = 30_000;

export interface BuildTime {
  readonly steps: number;
  readonly ms: number;
}

export interface TimedBuild {
  readonly socket: string;
  /** An image of the daemon; else a tree that is given to it. */
  readonly base: { readonly image: string } | { readonly tree: ByteString };
  /** An empty directory for the tree's tar. */
  readonly workspace: ByteString;
  readonly onProgress: (what: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Errors: unavailable with what the daemon says; canceled. */
export async function timeBuild({ socket, base, workspace, onProgress, signal }: TimedBuild): Promise<BuildTime> {
  const id = randomBytes(6).toString("hex");
  const made = `lamella-measure:base-${id}`;
  const tags = [made];
  let isBuilding = false;
  try {
    if ("tree" in base) {
      onProgress("giving the tree to dockerd");
      await importTree({ socket, tree: base.tree, tar: `${workspace}/tree.tar`, tag: made, signal });
    }
    const from = "image" in base ? base.image : made;
    const query = "version=1&nocache=1&rm=1&forcerm=1&networkmode=none&pull=0";
    const once = async (): Promise<number> => {
      // A tag of its own: an image that loses its tag to another would stay.
      const built = `lamella-measure:built${tags.length}-${id}`;
      tags.push(built);
      const before = performance.now();
      const body = contextOf(from, id);
      isBuilding = true;
      await followDocker({
        socket,
        method: "POST",
        path: `/build?${query}&t=${encodeURIComponent(built)}`,
        body,
        contentType: "application/x-tar",
        signal,
      });
      isBuilding = false;
      return performance.now() - before;
    };
    onProgress(`docker build, ${steps} steps`);
    const first = await once();
    if (first > longMs) return { steps, ms: first };
    onProgress(`docker build, ${steps} steps, again`);
    return { steps, ms: Math.min(first, await once()) };
  } finally {
    // A step that is under way when the build is given up is done to its end, and gives an image.
    if (isBuilding) await forgetSteps(socket, id);
    for (const tag of tags.reverse()) await forget(socket, tag);
  }
}

interface ImportedTree {
  readonly socket: string;
  readonly tree: ByteString;
  readonly tar: ByteString;
  readonly tag: string;
  readonly signal: AbortSignal | undefined;
}

async function importTree({ socket, tree, tar, tag, signal }: ImportedTree): Promise<void> {
  await exportLayer({ source: { kind: "trees", parent: undefined, tree }, tarPath: textOfBytes(tar), signal });
  const [repository = "", name = ""] = tag.split(":");
  await followDocker({
    socket,
    method: "POST",
    path: `/images/create?fromSrc=-&repo=${repository}&tag=${name}`,
    body: createReadStream(textOfBytes(tar)),
    contentType: "application/x-tar",
    signal,
  });
}

/** A build context: the Dockerfile and a file for each step. All images that come of it bear the label. */
function contextOf(from: string, id: string): Buffer {
  const names = Array.from({ length: steps }, (_, i) => `step${i + 1}`);
  const dockerfile = [
    `FROM ${from}`,
    `LABEL ${labelName}=${id}`,
    ...names.map((name) => `COPY ${name} /lamella-measure/`),
  ].join("\n");
  const writer = new TarWriter();
  const blocks: Uint8Array[] = [];
  const members = [["Dockerfile", `${dockerfile}\n`], ...names.map((name) => [name, `${name}\n`])];
  for (const [name = "", text = ""] of members) {
    const content = Buffer.from(text);
    const header = { name, type: "file", mode: 0o644, uid: 0, gid: 0, size: content.length, mtimeSec: 0 } as const;
    blocks.push(writer.header(header), content, writer.padding(content.length));
  }
  return Buffer.concat([...blocks, writer.end()]);
}

/** Removes what a build that was given up has left, until nothing more comes for a while. */
async function forgetSteps(socket: string, id: string): Promise<void> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`${labelName}=${id}`] }));
  const asked = { socket, method: "GET", path: `/images/json?all=1&filters=${filters}` } as const;
  let quietSince = Date.now();
  for (const end = Date.now() + longestTailMs; Date.now() < Math.min(end, quietSince + quietMs); ) {
    await sleep(300);
    // A daemon that has gone meanwhile cannot be asked to remove anything; the error of the build says that it has.
    const images = ((await askDockerJson(asked).catch(() => [])) ?? []) as readonly { readonly Id: string }[];
    if (images.length > 0) quietSince = Date.now();
    // One that another is made from does not go yet: the next round takes it.
    for (const { Id } of images) await forget(socket, Id);
  }
}

/** Removes an image; one that is not there was never made. Goes on when the rest was canceled. */
async function forget(socket: string, tag: string): Promise<void> {
  const path = `/images/${encodeURIComponent(tag)}?force=1`;
  await askDocker({ socket, method: "DELETE", path }).then(
    (answer) => answer.resume(),
    () => undefined,
  );
}
