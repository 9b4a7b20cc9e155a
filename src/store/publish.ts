/**
 * Publishing: the one way by which layers, images, tags and cache rows come to exist.
 *
 *   1. wait for the layers' digests
 *   2. write the config blob, held, under a temporary name and then its own
 *   3. flush: one syncfs when there are layers, else an fsync of the blob
 *   4. find the chains that somebody else has published meanwhile; move our layers that stand on ours over to theirs
 *   5. ONE transaction that checks 4 again and writes all rows
 *   6. drop our twins of what was there
 *
 * A crash before 5 leaves layers and a blob that nothing refers to and whose holder is dead; after 5 at most the twins of 4.
 */
import { performance } from "node:perf_hooks";
import type { LayerId } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { flushFileSystem } from "../fs/flush.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { type ImageConfig, parseConfig } from "../oci/config.ts";
import { type ChainId, chainIdsOf, type Digest, digestOf, hexOf } from "../oci/digest.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import { placeBlob, removeBlobUnlessNeeded } from "./blobs.ts";
import { cacheRowKey, noteUsedCacheRows } from "./cache.ts";
import { emit } from "./channels.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import type { LayerDigest, PublishRequest } from "./requests.ts";
import type { LayerWork, Staging } from "./staging.ts";
import type { ImageRecord, LayerRecord } from "./types.ts";

interface Ready {
  readonly work: LayerWork;
  readonly digest: LayerDigest;
}

interface ReadyImage {
  readonly id: Digest;
  readonly config: ImageConfig;
  readonly chainId: ChainId | undefined;
  readonly tags: readonly string[];
}

/** See `Store.publish`. */
export async function publish(
  store: StoreContext,
  staging: Staging,
  request: PublishRequest,
): Promise<ImageRecord | undefined> {
  const works = (request.layers ?? []).map((layer) => ({ layer, work: staging.workOf(layer) }));
  const image = request.image && readImage(request.image);
  const digests = await Promise.allSettled(works.map(({ layer }) => layer.done));
  const ready: Ready[] = digests.map((result, i) => {
    if (result.status === "rejected") throw result.reason;
    return { work: (works[i] as (typeof works)[number]).work, digest: result.value };
  });
  ready.sort((a, b) => a.work.depth - b.work.depth);
  const fresh = ready.filter(({ work }) => !work.isOver);

  if (image !== undefined) store.holds.holdBlob(hexOf(image.id));
  try {
    const layers = fresh.map(({ work }) => work.layerId);
    const flushMs = await makeDurable(store, layers, image && { id: image.id, bytes: request.image?.config });
    const { record, kept } = await commit(store, staging, { request, ready, fresh, image });
    failpoint("publish.committed");
    for (const { work } of ready) staging.releaseExisting(work);
    const dropped: ChainId[] = [];
    for (const { work, digest } of fresh) {
      const twin = kept.get(work);
      if (twin === undefined) await staging.published(work, recordOf(store, digest.chainId));
      else {
        dropped.push(digest.chainId);
        await staging.dropped(work, twin);
      }
    }
    const chains = fresh.map(({ digest }) => digest.chainId);
    emit("publish", { image: image?.id, layers: chains, dropped, flushMs });
    return record;
  } finally {
    if (image !== undefined) removeBlobUnlessNeeded(store, image.id);
  }
}

function readImage(image: NonNullable<PublishRequest["image"]>): ReadyImage {
  const config = parseConfig(image.config);
  const chain = chainIdsOf(config.rootfs.diff_ids).at(-1);
  if (chain !== image.chainId) {
    throw new LamellaError(
      "invalid_argument",
      "DIFF_IDS",
      `the config's diff IDs give the chain ${chain ?? "without layers"}, the image has ${image.chainId ?? "no layers"}`,
    );
  }
  return {
    id: digestOf(image.config),
    config,
    chainId: image.chainId,
    tags: (image.tags ?? []).map(fullTag),
  };
}

/** `name` as `name:latest`; refuses references with a digest. */
export function fullTag(text: string): string {
  const reference = parseReference(text);
  if (reference.digest !== undefined || reference.tag === undefined) {
    throw new LamellaError("invalid_argument", "INVALID_TAG", `${text}: a tag cannot hold a digest`);
  }
  return formatReference(reference);
}

async function makeDurable(
  store: StoreContext,
  layers: readonly LayerId[],
  blob: { readonly id: Digest; readonly bytes: Uint8Array | undefined } | undefined,
): Promise<number> {
  if (blob?.bytes !== undefined) placeBlob(store, blob.id, blob.bytes, { flush: store.durable && layers.length === 0 });
  if (layers.length === 0) return 0;
  failpoint("publish.before-sync");
  const started = performance.now();
  if (store.durable) {
    await store.driver.flush?.(layers);
    await flushFileSystem(bytesOfText(store.paths.root));
  }
  failpoint("publish.after-sync");
  return performance.now() - started;
}

interface Commit {
  readonly request: PublishRequest;
  readonly ready: readonly Ready[];
  readonly fresh: readonly Ready[];
  readonly image: ReadyImage | undefined;
}

/** Steps 4 and 5. `kept`: the records that were there before, by the work that made the same chain. */
async function commit(
  store: StoreContext,
  staging: Staging,
  { request, fresh, image }: Commit,
): Promise<{ readonly record: ImageRecord | undefined; readonly kept: ReadonlyMap<LayerWork, LayerRecord> }> {
  const { tables, driver } = store;
  const kept = new Map<LayerWork, LayerRecord>();
  const now = new Date().toISOString();
  for (;;) {
    for (const { work, digest } of fresh) {
      if (kept.has(work)) continue;
      const twin = twinOf(store, fresh, work, digest.chainId);
      if (twin === undefined) continue;
      work.record = twin;
      kept.set(work, twin);
    }
    for (const { work } of fresh) {
      const base = staging.baseLayerId(work);
      if (kept.has(work) || base === undefined || driver.parentOf(work.layerId) === base) continue;
      await driver.reparent(work.layerId, base);
      failpoint("publish.reparented");
    }
    const record = tables.meta.write(() => {
      const placed = new Set<ChainId>();
      for (const { work, digest } of fresh) {
        if (kept.has(work)) continue;
        if (tables.layers.doesExist(digest.chainId)) return undefined;
        const parent = work.base && chainOf(work);
        if (parent !== undefined && !tables.layers.doesExist(parent)) throw removedMeanwhile(parent);
        const { chainId, diffId, tarSizeBytes } = digest;
        const { layerId, depth } = work;
        tables.putLayer({ chainId, diffId, parent, layerId, tarSizeBytes, depth, createdAt: now });
        placed.add(chainId);
      }
      for (const row of request.cache ?? []) {
        if (row.chainId !== undefined && !tables.layers.doesExist(row.chainId)) throw removedMeanwhile(row.chainId);
        const created = row.createdAt === undefined ? {} : { createdAt: row.createdAt };
        tables.cache.putSync(cacheRowKey(row.key), { chainId: row.chainId, usedAt: now, ...created });
      }
      noteUsedCacheRows(store, now);
      return { image: image && putImage(store, image, now) };
    });
    if (record !== undefined) return { record: record.image, kept };
  }

  function chainOf(work: LayerWork): ChainId | undefined {
    const { base } = work;
    if (base === undefined) return undefined;
    if (base.kind === "record") return base.record.chainId;
    if (base.work.record !== undefined) return base.work.record.chainId;
    const listed = fresh.find((other) => other.work === base.work);
    if (listed !== undefined) return listed.digest.chainId;
    throw new LamellaError(
      "failed_precondition",
      "PARENT_UNPUBLISHED",
      `layer ${work.layerId} stands on layer ${base.work.layerId}, which is neither published nor in the list`,
    );
  }
}

/** A published layer with the chain ID of `work`: somebody else's (held from now on), or one earlier in the same list. */
function twinOf(
  store: StoreContext,
  fresh: readonly Ready[],
  work: LayerWork,
  chainId: ChainId,
): LayerRecord | undefined {
  const first = fresh.find(({ digest }) => digest.chainId === chainId);
  if (first !== undefined && first.work !== work) {
    throw new LamellaError("invalid_argument", "SAME_CHAIN", `two of the layers to publish are the same: ${chainId}`, {
      hint: "publish them one after the other",
    });
  }
  return store.holdChain(chainId);
}

function putImage(store: StoreContext, image: ReadyImage, now: string): ImageRecord {
  const { tables } = store;
  let sizeBytes = 0;
  try {
    for (const layer of tables.chain(image.chainId)) sizeBytes += layer.tarSizeBytes;
  } catch (cause) {
    throw removedMeanwhile(image.chainId as ChainId, cause);
  }
  const createdAt = image.config.created ?? now;
  const record: ImageRecord = { id: image.id, chainId: image.chainId, createdAt, sizeBytes };
  tables.imageRows.putSync(image.id, record);
  for (const tag of image.tags) tables.tags.putSync(tag, image.id);
  return record;
}

function recordOf(store: StoreContext, chainId: ChainId): LayerRecord {
  const record = store.tables.layers.get(chainId);
  if (record === undefined) throw removedMeanwhile(chainId);
  return record;
}

function removedMeanwhile(chainId: ChainId, cause?: unknown): LamellaError {
  return new LamellaError("aborted", "LAYER_REMOVED", `layer ${chainId} has been removed meanwhile`, {
    hint: "try again; the layer is made anew",
    cause,
  });
}
