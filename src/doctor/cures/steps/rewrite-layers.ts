/**
 * Layers of overlay2 with redirects or metadata-only copies are written anew without: what the layer changed is read as the
 * kernel understands it, and written as plain files, whiteouts and opaque directories. What is seen of the layer's stack stays
 * the same.
 *
 *     overlay2/<id>/diff                    the layer, new
 *     overlay2/<id>/diff.lamella-before     as it was, until `finish`
 *     overlay2/<id>/diff.lamella-new        being written, by way of diff.lamella-tar and diff.lamella-spill
 *
 * All layers are written before the first is put in place, as layers on top are read through those below.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { applyLayer } from "../../../diff/apply-layer.ts";
import { exportLayer } from "../../../diff/export-layer.ts";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { copyAttributes } from "../../../fs/copy-attributes.ts";
import { flushFileSystem } from "../../../fs/flush.ts";
import { removeTreeInBackground } from "../../../fs/tree-jobs.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { treesOf } from "../../../migrate/docker-root/trees.ts";
import { withoutDocker } from "../engine-guard.ts";
import { findMarkedLayers } from "../marked-layers.ts";
import type { RewriteLayersStep, StepContext, StepKind } from "./step.ts";

const newName = "diff.lamella-new";
const beforeName = "diff.lamella-before";
const tarName = "diff.lamella-tar";
const spillName = "diff.lamella-spill";

export const rewriteLayers: StepKind<RewriteLayersStep> = {
  describe: ({ root }) => `look through all layers in ${root} again, and write those with redirects anew without`,

  apply: async ({ root }, context) => {
    using _kept = withoutDocker(context.host, root);
    const home = homeOf(root, context);
    const marked = findMarkedLayers(home, "diff");
    for (const { id } of marked) await writeAnew(home, id, context);
    if (marked.length > 0) await flushFileSystem(bytesOfText(home));
    for (const { id } of marked) {
      renameSync(`${home}/${id}/diff`, `${home}/${id}/${beforeName}`);
      renameSync(`${home}/${id}/${newName}`, `${home}/${id}/diff`);
    }
    context.say(marked.length === 0 ? `no layer has redirects` : `wrote ${marked.length} layers without redirects`);
  },

  undo: async ({ root }, context) => {
    using _kept = withoutDocker(context.host, root);
    const home = homeOf(root, context);
    let kept = 0;
    for (const id of layersIn(home)) {
      const layer = `${home}/${id}`;
      const diff = `${layer}/diff`;
      const before = `${layer}/${beforeName}`;
      if (existsSync(before)) {
        // It says the same under either setting, and may hold what a container wrote since.
        if (context.engineRan) kept++;
        else {
          if (existsSync(diff)) renameSync(diff, `${layer}/${newName}`);
          renameSync(before, diff);
        }
      }
      for (const name of [newName, tarName, spillName]) await removeTreeInBackground(bytesOfText(`${layer}/${name}`));
    }
    return kept === 0
      ? undefined
      : `${kept} layers stay without redirects; as they were: ${root}/overlay2/*/${beforeName}`;
  },

  finish: async ({ root }, context) => {
    const home = homeOf(root, context);
    for (const id of layersIn(home)) await removeTreeInBackground(bytesOfText(`${home}/${id}/${beforeName}`));
    return undefined;
  },
};

function layersIn(home: string): string[] {
  return existsSync(home) ? readdirSync(home) : [];
}

function homeOf(root: string, { host }: StepContext): string {
  return `${host.view.at(root)}/overlay2`;
}

async function writeAnew(home: string, id: string, { directory, signal }: StepContext): Promise<void> {
  const trees = treesOf.overlay2?.(bytesOfText(home), "trusted.overlay.");
  const source = trees?.changes(id, undefined);
  if (source?.kind !== "upper") throw new LamellaError("internal", "NO_UPPER", `${home}/${id} has no upper directory`);
  const target = `${home}/${id}/${newName}`;
  await removeTreeInBackground(bytesOfText(target));
  mkdirSync(target);
  const tarPath = `${home}/${id}/${tarName}`;
  const recordPath = `${directory}/record`;
  try {
    const { tarSizeBytes, diffId } = await exportLayer({ source, tarPath, signal });
    const applied = await applyLayer({
      target: {
        whiteouts: "overlay",
        prefix: "trusted.overlay.",
        root: bytesOfText(target),
        lowers: source.lowers,
      },
      tar: { file: tarPath, offset: 0, length: tarSizeBytes },
      donor: { directory: source.upper, link: false },
      recordPath,
      spillDir: `${home}/${id}/${spillName}`,
      signal,
    });
    if (applied.diffId !== diffId)
      throw new LamellaError("data_loss", "FILE_CHANGED", `${home}/${id} was altered while it was read`);
    copyAttributes(source.upper, bytesOfText(target), { without: (name) => name.startsWith("trusted.overlay.") });
  } finally {
    for (const path of [tarPath, recordPath]) rmSync(path, { force: true });
    await removeTreeInBackground(bytesOfText(`${home}/${id}/${spillName}`));
  }
}
