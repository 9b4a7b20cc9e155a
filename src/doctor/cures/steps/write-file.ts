/**
 * Small files of configuration. The backup is whole before the file is touched, and the file is replaced in one step: a
 * killed step leaves either the old file or the new.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { hasCode } from "../../../errors/syscall-error.ts";
import { copyAttributes } from "../../../fs/copy-attributes.ts";
import { syncDirectory } from "../../../fs/durable-file.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { AT_FDCWD, O_RDONLY } from "../../../sys/constants.ts";
import * as sys from "../../../sys/syscalls.ts";
import type { StepContext, StepKind, WriteFileStep } from "./step.ts";

export const writeFile: StepKind<WriteFileStep> = {
  describe: ({ path, before, after }) =>
    after === undefined ? `remove ${path}` : `${before === undefined ? "write" : "change"} ${path}`,

  apply: async (step, context) => {
    const path = context.host.view.at(step.path);
    const backup = backupOf(context);
    const { before, after } = step;
    if (contentOf(path) !== before) throw changed(step.path, "since the plan was made");
    if (before !== undefined) replace(backup, before, path);
    for (const directory of step.madeDirectories) makeDirectory(context.host.view.at(directory));
    if (after !== undefined) replace(path, after, before === undefined ? undefined : backup);
    else if (before !== undefined) remove(path);
  },

  checkUndo: async (step, { host }) => {
    const now = contentOf(host.view.at(step.path));
    if (now !== step.before && now !== step.after) throw changed(step.path, "since the cure");
  },

  undo: async (step, context) => {
    const path = context.host.view.at(step.path);
    const backup = backupOf(context);
    // Without a backup the file was not touched.
    if (step.before !== undefined) {
      if (existsSync(backup)) replace(path, step.before, backup);
    } else remove(path);
    for (const directory of [...step.madeDirectories].reverse()) removeIfEmpty(context.host.view.at(directory));
    return undefined;
  },
};

function backupOf({ directory, index }: StepContext): string {
  return `${directory}/backup-${index}`;
}

/** Undefined when there is no such file. */
function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** In one step, durably, with the attributes of another file. */
function replace(path: string, content: string, like: string | undefined): void {
  const temporary = `${path}.lamella-tmp`;
  writeFileSync(temporary, content);
  if (like !== undefined) copyAttributes(bytesOfText(like), bytesOfText(temporary));
  // A new content has a new time; a backup and what comes from one keep theirs.
  const now = Date.now() / 1000;
  if (like !== undefined && readFileSync(like, "utf8") !== content) utimesSync(temporary, now, now);
  {
    using file = sys.open(bytesOfText(temporary), O_RDONLY);
    sys.fsync(file.fd);
  }
  sys.renameat2(AT_FDCWD, bytesOfText(temporary), AT_FDCWD, bytesOfText(path));
  syncDirectory(bytesOfText(path.slice(0, path.lastIndexOf("/")) || "/"));
}

function remove(path: string): void {
  rmSync(`${path}.lamella-tmp`, { force: true });
  rmSync(path, { force: true });
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!hasCode(error, "ENOENT", "ENOTEMPTY")) throw error;
  }
}

function changed(path: string, when: string): LamellaError {
  return new LamellaError("failed_precondition", "CHANGED_SINCE", `somebody changed ${path} ${when}`, {
    hint: `make it what it was, or put it right by hand and run \`--finish\``,
  });
}
