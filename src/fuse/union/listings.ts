/**
 * What directories list, while they are being read. The kernel opens no directory (../file-system.ts): it asks for what
 * follows an offset, whoever reads, and keeps the whole of a listing once it has seen its end.
 *
 * So the offset of a name is made of the name itself, as ext4 makes it: it stays good for telldir(3) and for a reader
 * half-way through, however many names come and go, and although the list is read anew by whoever begins. Names are listed in
 * the order of these offsets. What is kept here only spares reading a directory again for each part of it.
 */
import type { ByteString } from "../../lib/bytes.ts";
import type { LayerEntry } from "../../overlayfs/layer.ts";
import type { Node } from "./node.ts";

/** Of `.` and `..`, which come first. */
export const ABOVE = 2;
const HIGH = 4294967296;
/** Listings that are kept: those of directories of which nobody has seen the end. */
const MOST_LISTINGS = 64;
/** Names in all of them; of the two that were asked for last, all names are kept. */
const MOST_NAMES = 200_000;

/** Entries, each with the offset at which reading goes on after it; in ascending order of these. */
export interface Listing {
  readonly entries: readonly LayerEntry[];
  readonly offsets: Float64Array;
}

export class Listings {
  readonly #read: (node: Node) => LayerEntry[];
  /** The one that was asked for last comes last. */
  readonly #kept = new Map<Node, Listing>();
  #names = 0;

  /** `read`: the entries of a directory as they are now. */
  constructor(read: (node: Node) => LayerEntry[]) {
    this.#read = read;
  }

  /** Whoever begins sees the directory as it is now. */
  get(node: Node, fromStart: boolean): Listing {
    const kept = this.#kept.get(node);
    this.drop(node);
    const listing = kept === undefined || fromStart ? listingOf(this.#read(node)) : kept;
    this.#kept.set(node, listing);
    this.#names += listing.entries.length;
    this.#trim();
    return listing;
  }

  /** Its end has been seen. */
  drop(node: Node): void {
    this.#names -= this.#kept.get(node)?.entries.length ?? 0;
    this.#kept.delete(node);
  }

  #trim(): void {
    for (const node of this.#kept.keys()) {
      const count = this.#kept.size;
      if (count <= 2 || (count <= MOST_LISTINGS && this.#names <= MOST_NAMES)) return;
      this.drop(node);
    }
  }
}

/** The index of the first entry behind an offset. */
export function indexAfter({ offsets }: Listing, offset: number): number {
  let low = 0;
  let high = offsets.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((offsets[middle] as number) > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

function listingOf(found: readonly LayerEntry[]): Listing {
  const hashes = new Map(found.map((entry) => [entry, hash(entry.name)]));
  const of = (entry: LayerEntry): number => hashes.get(entry) as number;
  const entries = [...hashes.keys()].sort((a, b) => of(a) - of(b) || (a.name < b.name ? -1 : 1));
  const offsets = new Float64Array(entries.length);
  let last = ABOVE;
  for (const [at, entry] of entries.entries()) {
    // Two names of one hash, of which there are hardly any, follow each other.
    last = Math.max(of(entry), last + 1);
    offsets[at] = last;
  }
  return { entries, offsets };
}

/** 50 bits: FNV-1a and another sum beside it. */
function hash(name: ByteString): number {
  let low = 0x811c9dc5;
  let high = name.length;
  for (let i = 0; i < name.length; i++) {
    const byte = name.charCodeAt(i);
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high, 31) + byte;
  }
  return ((high ^ (low >>> 7)) & 0x3ffff) * HIGH + (low >>> 0);
}
