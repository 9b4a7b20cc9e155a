import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { LayerEntry } from "../../overlayfs/layer.ts";
import { ABOVE, indexAfter, Listings } from "./listings.ts";
import type { Node } from "./node.ts";

const entryOf = (name: string): LayerEntry => ({ name, type: 8, inoLow: 1, inoHigh: 0, layer: 0 });
const nodeOf = (id: number): Node => ({ id }) as Node;

/** Reads `part` names at a time; between the parts `meanwhile` is called. */
function readAll(listings: Listings, node: Node, part: number, meanwhile: () => void): string[] {
  const names: string[] = [];
  for (let offset = 0; ; ) {
    const listing = listings.get(node, offset === 0);
    const first = indexAfter(listing, Math.max(offset, ABOVE));
    const seen = listing.entries.slice(first, first + part);
    if (seen.length === 0) return names;
    names.push(...seen.map(({ name }) => name));
    offset = listing.offsets[first + seen.length - 1] as number;
    meanwhile();
  }
}

const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 60 });

test("names that stay are listed once, whatever comes and goes, whoever else begins, and whatever is dropped", () => {
  fc.assert(
    fc.property(names, names, fc.integer({ min: 1, max: 7 }), fc.boolean(), (stay, others, part, drops) => {
      const changing = others.filter((name) => !stay.includes(name));
      const node = nodeOf(1);
      let present: string[] = [...stay];
      let turn = 0;
      const listings = new Listings(() => present.map(entryOf));
      const read = readAll(listings, node, part, () => {
        turn++;
        present = [...stay, ...changing.filter((_, at) => (at + turn) % 3 === 0)];
        if (turn % 2 === 0) listings.get(node, true);
        if (drops) listings.drop(node);
      });
      const stayed = read.filter((name) => stay.includes(name));
      assert.deepEqual(stayed.toSorted(), stay.toSorted());
      assert.equal(new Set(read).size, read.length);
    }),
  );
});

test("a listing is read once by who goes through it, and of many directories the last ones are kept", () => {
  let reads = 0;
  const listings = new Listings(() => {
    reads++;
    return Array.from({ length: 1000 }, (_, at) => entryOf(`name-${at}`));
  });
  const first = nodeOf(0);
  readAll(listings, first, 10, () => {});
  assert.equal(reads, 1);
  for (let id = 1; id <= 63; id++) listings.get(nodeOf(id), true);
  listings.get(first, false);
  assert.equal(reads, 64);
  for (let id = 64; id < 128; id++) listings.get(nodeOf(id), true);
  listings.get(first, false);
  assert.equal(reads, 129);
});
