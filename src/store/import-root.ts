/**
 * Makes an image of a root file system: a directory of the host, or a tar of one. A directory goes through the canonical
 * tar, so that the layer is complete in itself and the same tree gives the same diff ID anywhere.
 */
import { realpathSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { arch } from "node:os";
import type { LayerTarInput } from "../diff/apply-layer.ts";
import { exportLayer } from "../diff/export-layer.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { configTime, encodeConfig, type RunConfig } from "../oci/config.ts";
import type { DiffId } from "../oci/digest.ts";
import { type Platform, platformOfNode } from "../oci/platform.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { fullTag, publish } from "./publish.ts";
import type { Staging } from "./staging.ts";
import { openInput, plainBytes, streamInput } from "./tar-input.ts";
import type { ImageRecord } from "./types.ts";

export type ImportSource =
  | { readonly kind: "directory"; readonly path: string }
  /** A tar, plain or compressed with gzip or zstd: a file, or a stream of bytes. */
  | { readonly kind: "tar"; readonly file: string }
  | { readonly kind: "tar"; readonly stream: AsyncIterable<Uint8Array> };

export interface ImportOptions {
  readonly tags?: readonly string[] | undefined;
  readonly run?: RunConfig | undefined;
  /** Default: the host's. */
  readonly platform?: Platform | undefined;
  readonly comment?: string | undefined;
  readonly author?: string | undefined;
  /** RFC 3339; default now. */
  readonly createdAt?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of tar bytes read so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** The tar of a root file system, and what must be done when it has been read. */
interface RootTar extends Disposable {
  readonly tar: LayerTarInput;
  readonly what: string;
  readonly diffId?: DiffId;
}

/** See `Store.importRoot`. */
export async function importRoot(
  store: StoreContext,
  staging: Staging,
  source: ImportSource,
  options: ImportOptions,
): Promise<ImageRecord> {
  const tags = (options.tags ?? []).map(fullTag);
  const { signal, onProgress } = options;
  const root = await openRoot(store, source, signal);
  const { tar, what, diffId: expectedDiffId } = root;
  try {
    const layer = await staging.unpack({ tar, what, expectedDiffId, signal, onProgress });
    try {
      const { diffId, chainId } = await layer.done;
      root[Symbol.dispose]();
      const config = configOf(diffId, options);
      return (await publish(store, staging, { layers: [layer], image: { config, chainId, tags } })) as ImageRecord;
    } catch (error) {
      await staging.discard(layer);
      throw error;
    }
  } finally {
    root[Symbol.dispose]();
  }
}

async function openRoot(store: StoreContext, source: ImportSource, signal: AbortSignal | undefined): Promise<RootTar> {
  if (source.kind === "directory") return tarOfDirectory(store, source.path, signal);
  if ("stream" in source) {
    return { tar: plainBytes(source.stream, signal), what: "the root tar", [Symbol.dispose]: () => {} };
  }
  const input = openInput(source.file);
  const isPlain = input.seekable?.compression === "none";
  const tar = isPlain
    ? { file: input.path, offset: 0, length: input.seekable?.sizeBytes ?? 0 }
    : plainBytes(streamInput(input), signal);
  return { tar, what: source.file, [Symbol.dispose]: () => input[Symbol.dispose]() };
}

async function tarOfDirectory(store: StoreContext, path: string, signal: AbortSignal | undefined): Promise<RootTar> {
  const tree = realpathSync(path);
  const inside = tree === "/" ? "/" : `${tree}/`;
  if (`${store.paths.root}/`.startsWith(inside)) {
    throw new LamellaError("invalid_argument", "ROOT_INSIDE", `${path} holds the store itself (${store.paths.root})`, {
      hint: "use a store outside of it (--root)",
    });
  }
  await mkdir(store.temporaryDirectory, { recursive: true, mode: 0o700 });
  const tarPath = store.temporaryPath("import");
  const remove = (): void => rmSync(tarPath, { force: true });
  try {
    const source = { kind: "trees", parent: undefined, tree: bytesOfText(tree) } as const;
    const { diffId, tarSizeBytes } = await exportLayer({ source, tarPath, signal });
    failpoint("import.tar-written");
    const tar = { file: tarPath, offset: 0, length: tarSizeBytes };
    return { tar, what: path, diffId, [Symbol.dispose]: remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function configOf(diffId: DiffId, options: ImportOptions): Buffer {
  const created = options.createdAt ?? configTime(new Date());
  const { author, comment, run } = options;
  const platform = options.platform ?? platformOfNode(arch());
  return encodeConfig({
    architecture: platform.architecture,
    os: platform.os,
    ...(platform.variant === undefined ? {} : { variant: platform.variant }),
    ...(author === undefined ? {} : { author }),
    ...(run === undefined ? {} : { config: run }),
    created,
    history: [
      {
        created,
        ...(author === undefined ? {} : { author }),
        ...(comment === undefined ? {} : { comment }),
      },
    ],
    rootfs: { type: "layers", diff_ids: [diffId] },
  });
}
