/** Images: finding them by what people write, tags, removal. */
import { LamellaError } from "../errors/lamella-error.ts";
import { nearest } from "../lib/nearest.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import type { StoreContext } from "./context.ts";
import { failpoint } from "./failpoints.ts";
import { fullTag } from "./publish.ts";
import { findUnneeded } from "./reachability.ts";
import { deleteForgotten, forget } from "./remove.ts";
import type { ImageListing } from "./requests.ts";
import { rowsOf, valuesOf } from "./tables.ts";
import type { ImageRecord, RemovedItem } from "./types.ts";

/** What a text names: an image, and the tag when it named one. */
interface Found {
  readonly record: ImageRecord;
  readonly tag: string | undefined;
}

/** See `Store.findImage`. */
export function findImage(store: StoreContext, text: string): Found | undefined {
  const { tables } = store;
  tables.meta.fresh();
  if (isDigest(text)) return foundById(tables.imageRows.get(text));
  if (/^[0-9a-f]{64}$/.test(text)) return foundById(tables.imageRows.get(`sha256:${text}`));
  const tag = tagOfText(text);
  const id = tag === undefined ? undefined : tables.tags.get(tag);
  if (id !== undefined) {
    const record = tables.imageRows.get(id);
    if (record !== undefined) return { record, tag };
  }
  const prefix = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(text)?.[1];
  if (prefix === undefined) return undefined;
  const start = `sha256:${prefix}`;
  const range = [...tables.imageRows.getRange({ start, end: `${start}g`, limit: 3 })];
  if (range.length > 1)
    throw ambiguous(
      "image",
      text,
      range.map(({ key }) => key),
    );
  return foundById(range[0]?.value);
}

/** See `Store.image`. */
export function requireImage(store: StoreContext, text: string): Found {
  const found = findImage(store, text);
  if (found !== undefined) return found;
  const names = rowsOf(store.tables.tags).map(([tag]) => tag);
  const near = nearest(text, [...names, ...names.map((name) => name.replace(/:latest$/, ""))]);
  const known = [...new Set(near.map((name) => (names.includes(name) ? name : `${name}:latest`)))];
  throw new LamellaError("not_found", "NO_SUCH_IMAGE", `no image ${JSON.stringify(text)} in the store`, {
    hint:
      known.length > 0
        ? `did you mean ${known.join(", ")}?`
        : names.length > 0
          ? "`lamella images` lists what there is"
          : "the store has no images yet: `lamella import`, `lamella load` or `lamella build` makes one",
  });
}

/** See `Store.images`. */
export function listImages(store: StoreContext): ImageListing[] {
  const { tables } = store;
  tables.meta.fresh();
  const tags = new Map<Digest, string[]>();
  for (const [tag, id] of rowsOf(tables.tags)) tags.set(id, [...(tags.get(id) ?? []), tag]);
  return valuesOf(tables.imageRows)
    .map((record) => ({ ...record, tags: tags.get(record.id) ?? [] }))
    .sort((a, b) => compare(timeOf(b), timeOf(a)) || compare(a.id, b.id));
}

/** See `Store.tagsOf`. */
export function tagsOf(store: StoreContext, id: Digest): string[] {
  store.tables.meta.fresh();
  return rowsOf(store.tables.tags).flatMap(([tag, target]) => (target === id ? [tag] : []));
}

/** See `Store.tag`. */
export function tagImage(store: StoreContext, image: string, tag: string): string {
  const name = fullTag(tag);
  const { record } = requireImage(store, image);
  store.tables.meta.write(() => {
    if (!store.tables.imageRows.doesExist(record.id)) requireImage(store, record.id);
    store.tables.tags.putSync(name, record.id);
  });
  return name;
}

/** See `Store.untag`. */
export function untag(store: StoreContext, tag: string): void {
  const name = fullTag(tag);
  const existed = store.tables.meta.write(() => store.tables.tags.removeSync(name));
  if (!existed) requireImage(store, tag);
}

/** See `Store.removeImage`. */
export async function removeImage(store: StoreContext, text: string, force: boolean): Promise<RemovedItem[]> {
  const { tables } = store;
  const removed: RemovedItem[] = [];
  const forgotten = tables.meta.write(() => {
    const { record, tag } = requireImage(store, text);
    const tags = tagsOf(store, record.id);
    const users = valuesOf(tables.containerRows).filter((container) => container.image === record.id);
    const staysTagged = tag !== undefined && tags.length > 1;
    if (!staysTagged && users[0] !== undefined && !force) throw inUse(text, users[0]);
    if (tag === undefined && tags.length > 1 && !force) throw severalTags(text, tags);
    for (const name of tag === undefined ? tags : [tag]) {
      tables.tags.removeSync(name);
      removed.push({ kind: "untagged", tag: name });
    }
    if (staysTagged) return undefined;
    const chain = chainSet(store, record);
    tables.imageRows.removeSync(record.id);
    removed.push({ kind: "deleted_image", id: record.id });
    const layers = findUnneeded(store).layers.filter(({ chainId }) => chain.has(chainId));
    for (const { chainId } of layers) removed.push({ kind: "deleted_layer", chainId });
    return forget(store, layers, [record.id]);
  });
  failpoint("remove.forgotten");
  if (forgotten !== undefined) await deleteForgotten(store, forgotten);
  return removed;
}

/** The chain IDs of an image's layers, as far as they are there. */
function chainSet(store: StoreContext, record: ImageRecord): ReadonlySet<string> {
  const chain = new Set<string>();
  for (let at = record.chainId; at !== undefined && !chain.has(at); at = store.tables.layers.get(at)?.parent)
    chain.add(at);
  return chain;
}

/** The error for a prefix that several things have. */
export function ambiguous(what: string, text: string, candidates: readonly string[]): LamellaError {
  return new LamellaError(
    "invalid_argument",
    "AMBIGUOUS_ID",
    `${JSON.stringify(text)} is the start of more than one ${what} ID`,
    { hint: `write more of it: ${candidates.map((id) => id.replace("sha256:", "").slice(0, 16)).join(", ")}…` },
  );
}

function foundById(record: ImageRecord | undefined): Found | undefined {
  return record && { record, tag: undefined };
}

/** The tag a text would name, or nothing when it cannot name one. */
function tagOfText(text: string): string | undefined {
  try {
    const { digest, ...reference } = parseReference(text);
    return digest === undefined ? formatReference(reference) : undefined;
  } catch (error) {
    if (error instanceof LamellaError) return undefined;
    throw error;
  }
}

function timeOf(record: ImageRecord): number {
  return Date.parse(record.createdAt);
}

/** Order of numbers or texts; a time that cannot be read counts as the oldest. */
function compare(a: number | string, b: number | string): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(b)) - Number(Number.isNaN(a));
  return a < b ? -1 : a > b ? 1 : 0;
}

function inUse(text: string, container: { readonly id: string; readonly name: string | undefined }): LamellaError {
  const name = container.name ?? container.id.slice(0, 12);
  return new LamellaError("failed_precondition", "IMAGE_IN_USE", `container ${name} stands on image ${text}`, {
    hint: `remove it first (\`lamella rm ${name}\`), or use --force: the container keeps its layers`,
  });
}

function severalTags(text: string, tags: readonly string[]): LamellaError {
  return new LamellaError("failed_precondition", "IMAGE_TAGGED", `image ${text} has several tags: ${tags.join(", ")}`, {
    hint: "remove it by tag, one after the other, or use --force to remove all",
  });
}
