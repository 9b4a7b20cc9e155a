/**
 * Brings images from one of Docker's drivers to another, by way of a store of our own that is removed again. Every layer comes
 * as its exact tar, verified by its digest, so images keep their IDs. Containers stay under the old driver.
 */
import { existsSync, mkdirSync } from "node:fs";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { removeTreeInBackground } from "../../../fs/tree-jobs.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { migrateFromDocker } from "../../../migrate/from-docker.ts";
import type { Note } from "../../../migrate/report.ts";
import { migrateToDocker } from "../../../migrate/to-docker.ts";
import { Store } from "../../../store/store.ts";
import { getJson } from "../../collect/unix-http.ts";
import { withoutDocker } from "../engine-guard.ts";
import { directoriesOf, removeUndone, undoDriver } from "./new-driver.ts";
import type { MoveImagesStep, StepContext, StepKind } from "./step.ts";

const storeName = ".lamella-doctor-store";

export const moveImages: StepKind<MoveImagesStep> = {
  describe: ({ root, driver, toRoot, toDriver }) =>
    `write the images of ${driver} in ${root} anew for ${toDriver}${toRoot === root ? "" : ` in ${toRoot}`}`,

  apply: async ({ root, driver, toRoot, toDriver }, { host, signal, say }) => {
    // Asked here, and then by both moves, which hold Docker's locks themselves.
    withoutDocker(host, root)[Symbol.dispose]();
    const storeRoot = `${host.view.at(toRoot)}/${storeName}`;
    await removeTreeInBackground(bytesOfText(storeRoot));
    mkdirSync(storeRoot, { mode: 0o700 });
    {
      await using store = await Store.open({ root: storeRoot, durable: false, signal });
      const into = await migrateFromDocker(store, { root: host.view.at(root), dockerDriver: driver, signal });
      refuseLosses(into.leftOut);
      const out = await migrateToDocker(store, { root: host.view.at(toRoot), dockerDriver: toDriver, signal });
      refuseLosses(out.leftOut);
      say(`moved ${out.images.length} images with ${out.layers.count} layers from ${driver} to ${toDriver}`);
      await store.clear();
    }
    await removeTreeInBackground(bytesOfText(storeRoot));
  },

  undo: async ({ root, toRoot, toDriver }, { host, engineRan }) => {
    const target = host.view.at(toRoot);
    if (!existsSync(target)) return undefined;
    await removeTreeInBackground(bytesOfText(`${target}/${storeName}`));
    // Elsewhere it goes with the file system that was made for it.
    if (root !== toRoot) return undefined;
    return undoDriver(host, { root, driver: toDriver }, { engineRan });
  },

  finish: async (step, context, { isUndone }) => {
    const { host } = context;
    if (isUndone) {
      await removeUndone(host, step.toRoot);
      return undefined;
    }
    if (!step.removeOld) return undefined;
    await refuseUsed(step, context);
    for (const path of directoriesOf(step.driver))
      await removeTreeInBackground(bytesOfText(`${host.view.at(step.root)}/${path}`));
    return undefined;
  },
};

function refuseLosses(leftOut: readonly Note[]): void {
  const [first] = leftOut;
  if (first === undefined) return;
  const more = leftOut.length === 1 ? "" : ` (and ${leftOut.length - 1} more)`;
  throw new LamellaError("failed_precondition", "NOT_ALL_MOVED", `${first.subject}: ${first.message}${more}`, {
    hint: "remove what is damaged with docker, and run the cure again",
  });
}

/** The old driver may be in use again. */
async function refuseUsed({ root, driver, socket }: MoveImagesStep, { host }: StepContext): Promise<void> {
  let info: { Driver?: unknown; DockerRootDir?: unknown } | undefined;
  if (socket !== undefined && host.view.exists(socket))
    info = (await getJson(host.view.at(socket), "/info").catch(() => undefined)) as typeof info;
  if (info?.DockerRootDir === root && info.Driver !== driver) return;
  if (info === undefined) return withoutDocker(host, root)[Symbol.dispose]();
  throw new LamellaError("failed_precondition", "IN_USE", `Docker uses the driver ${driver} in ${root}`, {
    hint: "nothing was removed; `--undo` forgets the cure",
  });
}
