/**
 * The directories of a driver that Docker is to use from now on: there is nothing in them before, so all that is in them later
 * has been made under the new driver. Undo sets it aside, where the old driver does not see it, and `finish` then removes it.
 *
 *     <root>/<driver>, <root>/image/<driver>                 as Docker has them
 *     <root>/lamella-doctor-undone/{<driver>,image/<driver>}    after an undo
 */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { removeTreeInBackground } from "../../../fs/tree-jobs.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { AT_FDCWD } from "../../../sys/constants.ts";
import * as sys from "../../../sys/syscalls.ts";
import type { CureHost } from "../cure-host.ts";
import { withoutDocker } from "../engine-guard.ts";
import type { NewDriverStep, StepKind } from "./step.ts";

const undoneName = "lamella-doctor-undone";

export interface DriverPlace {
  readonly root: string;
  readonly driver: string;
}

export const newDriver: StepKind<NewDriverStep> = {
  describe: ({ root, driver }) => `see that nothing of ${driver} is in ${root} yet: what comes is set aside by --undo`,
  apply: async ({ root, driver }, { host }) => {
    using _kept = withoutDocker(host, root);
    for (const path of directoriesOf(driver)) {
      const at = `${host.view.at(root)}/${path}`;
      if (existsSync(at) && readdirSync(at).length > 0)
        throw new LamellaError(
          "failed_precondition",
          "DRIVER_HAS_DATA",
          `there is data of ${driver} in ${root} by now`,
        );
    }
  },
  undo: (step, { host, engineRan }) => undoDriver(host, step, { engineRan }),
  finish: async ({ root }, { host }, { isUndone }) => {
    if (isUndone) await removeUndone(host, root);
    return undefined;
  },
};

/** Names in a data root. */
export function directoriesOf(driver: string): string[] {
  return [`image/${driver}`, driver];
}

/** Removes a driver's directories, or sets them aside where an engine has worked on them; what was kept. */
export async function undoDriver(
  host: CureHost,
  { root, driver }: DriverPlace,
  { engineRan }: { readonly engineRan: boolean },
): Promise<string | undefined> {
  withoutDocker(host, root)[Symbol.dispose]();
  const target = host.view.at(root);
  if (!engineRan) {
    for (const path of directoriesOf(driver)) await removeTreeInBackground(bytesOfText(`${target}/${path}`));
    return undefined;
  }
  const aside = `${target}/${undoneName}`;
  for (const path of [aside, `${aside}/image`]) if (!existsSync(path)) mkdirSync(path, { mode: 0o700 });
  for (const path of directoriesOf(driver)) {
    const from = bytesOfText(`${target}/${path}`);
    if (sys.statIfExists(AT_FDCWD, from) !== undefined)
      sys.renameToFree(AT_FDCWD, from, AT_FDCWD, bytesOfText(`${aside}/${path}`));
  }
  return `${root}/${undoneName}: what Docker made under ${driver}`;
}

/** What {@link undoDriver} kept. */
export async function removeUndone(host: CureHost, root: string): Promise<void> {
  await removeTreeInBackground(bytesOfText(`${host.view.at(root)}/${undoneName}`));
}
