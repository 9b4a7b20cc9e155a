/** The native diff of the same 100 changes over ever larger images: what lies below must not matter. */
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Helper, output } from "../measure.ts";
import { lamella, repository } from "../places.ts";
import { type Context, median, type Result, type Row } from "../row.ts";

const sizes = [1_000, 10_000, 100_000, 500_000];
const FILES_A_DIRECTORY = 100;
/** Diffs for each measurement: one alone is too short to time well. */
const TIMES = 20;

/** A tree of so many entries, all of it empty files. */
function plant(root: string, entries: number): void {
  const perDirectory = FILES_A_DIRECTORY + 1;
  for (let planted = 0; planted < entries; planted += perDirectory) {
    const directory = join(root, `d${planted / perDirectory}`);
    mkdirSync(directory);
    for (let i = 0; i < FILES_A_DIRECTORY; i++) closeSync(openSync(join(directory, `f${i}`), "w"));
  }
}

/** The 100 changes: 50 files rewritten, 25 new, 25 removed, in five directories that every size has. */
function change(mounted: string): void {
  for (let d = 0; d < 5; d++) {
    const directory = join(mounted, `d${d}`);
    for (let i = 0; i < 10; i++) writeFileSync(join(directory, `f${i}`), "changed");
    for (let i = 0; i < 5; i++) writeFileSync(join(directory, `new${i}`), "new");
    for (let i = 20; i < 25; i++) rmSync(join(directory, `f${i}`));
  }
}

async function run({ places, pairs, log }: Context): Promise<Result[]> {
  const store = join(places.fresh("native"), "store");
  const command = [...lamella, "--root", store];
  const containers: string[] = [];
  for (const entries of sizes) {
    log(`native diff: ${entries} entries`);
    const tree = places.fresh("planted");
    plant(tree, entries);
    output([...command, "import", tree, `bench:${entries}`]);
    const id = output([...command, "create", `bench:${entries}`]).trim();
    change(output([...command, "mount", id]).trim());
    output([...command, "umount", id]);
    containers.push(id);
    places.remove(tree);
  }
  await using helper = new Helper([process.execPath, join(repository, "dist/bench/peers/diff.js")]);
  const times: number[][] = containers.map(() => []);
  const answers = new Set<string>();
  // One round more than asked for: the first warms the caches.
  for (let round = 0; round <= pairs * 2; round++) {
    for (const [i, id] of containers.entries()) {
      const { answer, ms } = await helper.ask(`native ${store} ${id} ${TIMES}`);
      answers.add(answer);
      if (round > 0) times[i]?.push(ms / TIMES);
    }
  }
  if (answers.size !== 1) throw new Error(`the sizes gave different changes: ${[...answers].join(", ")}`);
  const [least = []] = times;
  return sizes.slice(1).map((entries, i) => ({
    work: `native diff of 100 changes over ${entries} entries`,
    peer: `itself over ${sizes[0]}`,
    ours: times[i + 1] ?? [],
    theirs: least,
    limit: 1.1,
    peakBytes: helper.peakBytes,
    note: `${median(times[i + 1] ?? []).toFixed(2)} ms a diff, ${[...answers][0]} changes listed`,
  }));
}

export const nativeDiff: Row = { name: "native-diff", about: "100 changes over 1k to 500k entries", run };
