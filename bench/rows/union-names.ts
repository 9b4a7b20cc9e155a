/** Names and attributes through the union file systems: cached, listed for the first time, and asked for one by one. */
import { join } from "node:path";
import { Helper, wallMs } from "../measure.ts";
import { repository } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";
import { compareUnions } from "../union/compare.ts";
import { makeTree } from "../union/tree.ts";

const tree = { directories: 1000, filesInEach: 100 };
const STATS = 200_000;
const MOST_MEGABYTES = 250;
const program = [process.execPath, join(repository, "dist/bench/peers/files.js")];

async function find(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  makeTree(join(comparison.lower, "tree"), tree);
  await using helper = new Helper(program);
  const works = [
    { name: "stat of one file, cached", limits: { "fuse-overlayfs": 1 } },
    { name: "find over 100k files", limits: { "fuse-overlayfs": 1 } },
    { name: "find, second time", limits: { "fuse-overlayfs": 1, overlay: 1.2 } },
    { name: "find with stat, 100k files", limits: { "fuse-overlayfs": 1 } },
    { name: "find with stat, second time", limits: { "fuse-overlayfs": 1, overlay: 1.2 } },
  ];
  const [stat = "", first = "", second = "", firstStat = "", secondStat = ""] = works.map(({ name }) => name);
  const resident: number[] = [];
  const results = await comparison.run(works, async (mount, union) => {
    const root = join(mount.target, "tree");
    const figures = {
      [first]: wallMs(["find", root]),
      [second]: wallMs(["find", root]),
      [firstStat]: wallMs(["find", root, "-size", "+1M"]),
      [secondStat]: wallMs(["find", root, "-size", "+1M"]),
      [stat]: (await helper.ask(`stat ${root}/d0/file-0 ${STATS}`)).ms,
    };
    if (union === "lamella-overlay") resident.push(mount.residentBytes / 1048576);
    return figures;
  });
  const memory = { work: "union: MB with 100k cached inodes", peer: `${MOST_MEGABYTES} MB`, ours: resident };
  return [...results, { ...memory, theirs: [MOST_MEGABYTES], limit: 1 }];
}

async function lookup(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  makeTree(join(comparison.lower, "tree"), tree);
  await using one = new Helper(program);
  await using other = new Helper(program);
  const { directories, filesInEach } = tree;
  const name = "lookup of 100k names, 2 processes";
  return await comparison.run([{ name, limits: { "fuse-overlayfs": 1 / 1.5 } }], async ({ target }) => {
    const ask = (helper: Helper, from: number): Promise<unknown> =>
      helper.ask(`lookup ${target}/tree ${from} ${from + directories / 2} ${filesInEach}`);
    const started = performance.now();
    await Promise.all([ask(one, 0), ask(other, directories / 2)]);
    return { [name]: performance.now() - started };
  });
}

export const unionFind: Row = {
  name: "union-find",
  about: "stat and find over 100k files through FUSE and the kernel's overlay, and the memory that takes",
  run: find,
};
export const unionLookup: Row = {
  name: "union-lookup",
  about: "names looked up for the first time through them, by two processes",
  run: lookup,
};
