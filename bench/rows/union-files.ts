/** Many small files through the union file systems: copied, made, archived, removed, given away. */
import { join } from "node:path";
import { Helper, output, wallMs } from "../measure.ts";
import { repository } from "../places.ts";
import type { Context, Result, Row } from "../row.ts";
import { compareUnions, type Work } from "../union/compare.ts";
import { makeTree } from "../union/tree.ts";

const CREATED = 5000;
/** Two trees of 10,000 files each. */
const half = { directories: 100, filesInEach: 100 };
const program = [process.execPath, join(repository, "dist/bench/peers/files.js")];

const out: Work = { name: "cp -r of 10,000 files out", limits: { "fuse-overlayfs": 0.8 } };
const into: Work = { name: "cp -r of 10,000 files in", limits: { "fuse-overlayfs": 0.8 } };
const create: Work = { name: "create 5,000 files", limits: { "fuse-overlayfs": 0.5 } };
const tarNew: Work = { name: "tar of 20,000 new files", limits: {} };
const tarLower: Work = { name: "tar of 20,000 lower files", limits: { "fuse-overlayfs": 0.5 } };
const removeNew: Work = { name: "rm -rf of 20,000 new files", limits: { "fuse-overlayfs": 0.5 } };
const chown: Work = { name: "chown -R of 20,000 lower files", limits: { "fuse-overlayfs": 1 } };
const remove: Work = { name: "rm -r of 20,000 lower files", limits: { "fuse-overlayfs": 1 } };

function twoTrees(at: string): void {
  output(["mkdir", at]);
  for (const name of ["a", "b"]) makeTree(join(at, name), half);
}

async function copies(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  makeTree(join(comparison.lower, "tree"), half);
  await using helper = new Helper(program);
  const copy = join(comparison.directory, "copy");
  return await comparison.run([out, into, create], async ({ target }) => {
    const figures: Record<string, number> = {};
    figures[out.name] = wallMs(["cp", "-r", join(target, "tree"), copy]);
    figures[into.name] = wallMs(["cp", "-r", copy, join(target, "new")]);
    figures[create.name] = (await helper.ask(`create ${join(target, "created")} ${CREATED}`)).ms;
    output(["rm", "-rf", copy]);
    return figures;
  });
}

async function archive(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  const source = join(comparison.lower, "old");
  twoTrees(source);
  // Not to /dev/null itself: GNU tar then reads nothing.
  const archived = (at: string, name: string): number =>
    wallMs(["sh", "-c", 'tar -cf - -C "$0" "$1" | cat >/dev/null', at, name]);
  return await comparison.run([tarLower, tarNew, removeNew], async ({ target }) => {
    const ofLower = archived(target, "old");
    output(["cp", "-r", source, join(target, "new")]);
    return {
      [tarLower.name]: ofLower,
      [tarNew.name]: archived(target, "new"),
      [removeNew.name]: wallMs(["rm", "-rf", join(target, "new")]),
    };
  });
}

async function lower(context: Context): Promise<Result[]> {
  using comparison = compareUnions(context);
  for (const name of ["given", "removed"]) twoTrees(join(comparison.lower, name));
  return await comparison.run([chown, remove], async ({ target }) => ({
    [chown.name]: wallMs(["chown", "-R", "1:1", join(target, "given")]),
    [remove.name]: wallMs(["rm", "-r", join(target, "removed")]),
  }));
}

export const unionCopies: Row = {
  name: "union-copies",
  about: "small files copied out of FUSE and the kernel's overlay, into them, and made in them",
  run: copies,
};
export const unionArchive: Row = {
  name: "union-archive",
  about: "20,000 lower and 20,000 new files read by tar, the new ones removed",
  run: archive,
};
export const unionLower: Row = {
  name: "union-lower",
  about: "20,000 files of their lower layer given to another owner, and removed",
  run: lower,
};
