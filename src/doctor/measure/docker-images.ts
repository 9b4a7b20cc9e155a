/** Images of a daemon: where their layers lie, and how many files they have. Only overlay2 has them in plain sight. */
import { setImmediate } from "node:timers/promises";
import { applyLayer } from "../../diff/apply-layer.ts";
import { throwIfAborted } from "../../errors/lamella-error.ts";
import { walkTree } from "../../fs/walk.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import { askDocker, askDockerJson } from "./docker-api.ts";

/** So many images, the largest first. */
const mostImages = 12;
/** Files looked at in all, about. */
const mostEntries = 4_000_000;

interface Inspected {
  readonly RepoTags?: readonly string[] | null;
  readonly GraphDriver?: { readonly Name?: string; readonly Data?: Readonly<Record<string, string>> | null };
}

export interface CountedImage {
  readonly name: string;
  readonly layers: number;
  /** Files and directories in its layers. */
  readonly entries: number;
}

/** Directories of an image's layers, the uppermost first; undefined when there is no such image or they are not to be had. */
export async function layersOfImage(
  socket: string,
  image: string,
  signal?: AbortSignal,
): Promise<readonly ByteString[] | undefined> {
  const path = `/images/${encodeURIComponent(image)}/json`;
  const { GraphDriver } = (await askDockerJson({ socket, method: "GET", path, signal })) as Inspected;
  const { UpperDir, LowerDir } = GraphDriver?.Data ?? {};
  if (GraphDriver?.Name !== "overlay2" || !UpperDir) return undefined;
  return [UpperDir, ...(LowerDir ? LowerDir.split(":") : [])].map(bytesOfText);
}

/** Writes the tree of an image to the empty directory `root`, by way of a container that is never started. */
export async function exportImage(
  socket: string,
  image: string,
  {
    root,
    workspace,
    signal,
  }: { readonly root: ByteString; readonly workspace: ByteString; readonly signal?: AbortSignal },
): Promise<void> {
  const body = Buffer.from(JSON.stringify({ Image: image, Cmd: ["true"], NetworkDisabled: true }));
  const created = {
    socket,
    method: "POST",
    path: "/containers/create",
    body,
    contentType: "application/json",
  } as const;
  const { Id } = (await askDockerJson({ ...created, ...(signal && { signal }) })) as { Id: string };
  try {
    const tar = await askDocker({ socket, method: "GET", path: `/containers/${Id}/export`, signal });
    await applyLayer({
      target: { whiteouts: "remove", root, lowers: [], prefix: "trusted.overlay." },
      tar,
      recordPath: textOfBytes(`${workspace}/record`),
      spillDir: textOfBytes(`${workspace}/spill`),
      signal,
    });
  } finally {
    const gone = await askDocker({ socket, method: "DELETE", path: `/containers/${Id}?force=1` });
    gone.resume();
  }
}

/** Counts the largest images' files. Errors: those of reading, when the data root is not for the caller to read; canceled. */
export async function countImages(
  socket: string,
  { onProgress, signal }: { readonly onProgress: (what: string) => void; readonly signal?: AbortSignal | undefined },
): Promise<CountedImage[]> {
  const path = `/images/json?filters=${encodeURIComponent('{"dangling":["false"]}')}`;
  const list = (await askDockerJson({ socket, method: "GET", path, signal })) as {
    readonly Id: string;
    readonly Size: number;
    readonly RepoTags?: readonly string[] | null;
  }[];
  const largest = list.sort((a, b) => b.Size - a.Size).slice(0, mostImages);
  const entriesOf = new Map<ByteString, number>();
  const counted: CountedImage[] = [];
  let seen = 0;
  for (const { Id, RepoTags } of largest) {
    const name = RepoTags?.find((tag) => tag !== "<none>:<none>") ?? Id.replace("sha256:", "").slice(0, 12);
    onProgress(`counting the files of ${name}`);
    const layers = await layersOfImage(socket, Id, signal);
    if (layers === undefined) continue;
    for (const layer of layers) {
      if (entriesOf.has(layer) || seen > mostEntries) continue;
      const { entries } = await walkTree(layer, { signal });
      entriesOf.set(layer, entries);
      seen += entries;
    }
    if (layers.every((layer) => entriesOf.has(layer)))
      counted.push({
        name,
        layers: layers.length,
        entries: layers.reduce((sum, one) => sum + (entriesOf.get(one) ?? 0), 0),
      });
    await setImmediate();
    throwIfAborted(signal);
  }
  return counted.sort((a, b) => b.entries - a.entries);
}
