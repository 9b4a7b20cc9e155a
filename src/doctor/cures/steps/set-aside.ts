/**
 * Things are renamed instead of removed: out of the engine's way, on the same file system, and back again if need be. Each
 * rename is atomic, so a killed step has moved some things and not others, each of which is in one of its two places.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { dirname } from "node:path";
import { removeTreeInBackground } from "../../../fs/tree-jobs.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { AT_FDCWD } from "../../../sys/constants.ts";
import * as sys from "../../../sys/syscalls.ts";
import { withoutDocker } from "../engine-guard.ts";
import type { SetAsideStep, StepContext, StepKind } from "./step.ts";

const undoneSuffix = ".lamella-undone";

export const setAside: StepKind<SetAsideStep> = {
  describe: ({ moves, into }) => {
    const [first] = moves;
    if (into === undefined) return moves.map(({ from, to }) => `rename ${from} to ${to}`).join("; ");
    return `rename ${moves.length === 1 ? first?.from : `${moves.length} things, ${first?.from} first,`} into ${into}`;
  },
  apply: async (step, context) => {
    using _kept = guard(step, context);
    const at = (path: string): string => context.host.view.at(path);
    if (step.into !== undefined) makeDirectory(at(step.into));
    for (const { from, to } of step.moves) {
      if (step.into !== undefined) for (const folder of foldersBetween(step.into, to)) makeDirectory(at(folder));
      // What is gone since the plan was made needs no room.
      if (lexists(at(from))) rename(at(from), at(to));
    }
  },
  undo: async (step, context) => {
    const at = (path: string): string => context.host.view.at(path);
    using _kept = guard(step, context);
    const kept: string[] = [];
    for (const { from, to } of [...step.moves].reverse()) {
      if (!lexists(at(to))) continue;
      // An engine made a new one since.
      if (lexists(at(from))) {
        rename(at(from), at(`${from}${undoneSuffix}`));
        kept.push(`${from}${undoneSuffix}`);
      }
      rename(at(to), at(from));
    }
    if (step.into === undefined) return kept.length === 0 ? undefined : kept.join(", ");
    for (const { to } of step.moves)
      for (const folder of foldersBetween(step.into, to).reverse()) removeIfEmpty(at(folder));
    removeIfEmpty(at(step.into));
    return undefined;
  },
  finish: async (step, context, { isUndone }) => {
    if (isUndone)
      for (const { from } of step.moves)
        await removeTreeInBackground(bytesOfText(`${context.host.view.at(from)}${undoneSuffix}`));
    if (isUndone || !step.remove) return undefined;
    const paths = step.into === undefined ? step.moves.map(({ to }) => to) : [step.into];
    for (const path of paths) {
      const at = context.host.view.at(path);
      if (lexists(at)) await removeTreeInBackground(bytesOfText(at));
    }
    return undefined;
  },
};

/** A data root that is not there now, as it is renamed itself, is no engine's. */
function guard({ root }: SetAsideStep, { host }: StepContext): Disposable {
  if (existsSync(host.view.at(root))) return withoutDocker(host, root);
  return { [Symbol.dispose]: () => {} };
}

function lexists(path: string): boolean {
  return sys.statIfExists(AT_FDCWD, bytesOfText(path)) !== undefined;
}

function rename(from: string, to: string): void {
  sys.renameToFree(AT_FDCWD, bytesOfText(from), AT_FDCWD, bytesOfText(to));
}

/** Directories below `into` that lead to a path, the uppermost first. */
function foldersBetween(into: string, path: string): string[] {
  const folders: string[] = [];
  for (let at = dirname(path); at.length > into.length; at = dirname(at)) folders.unshift(at);
  return folders;
}

function makeDirectory(path: string): void {
  if (!existsSync(path)) mkdirSync(path, { mode: 0o700 });
}

function removeIfEmpty(path: string): void {
  if (existsSync(path) && readdirSync(path).length === 0) rmdirSync(path);
}
