/** `--from=` of COPY, ADD and RUN --mount: an earlier stage by name or number, else an image of the store. */

import { copySourceStage } from "../dockerfile/index.ts";
import type { LayerView } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { nearest } from "../lib/nearest.ts";
import { type StageContext, treeView } from "./build-session.ts";

export interface FromTree {
  readonly view: LayerView;
  /** For messages. */
  readonly name: string;
}

/** The tree `from` names. Errors: not_found with the nearest stages and images. */
export async function fromTree(context: StageContext, from: string): Promise<FromTree> {
  const { session, stage } = context;
  const index = copySourceStage({ from }, session.stages, stage.index);
  if (index !== undefined) {
    const result = await session.stage(index);
    return { view: await treeView(session, result.layers, `stage ${from}`), name: `stage ${from}` };
  }
  try {
    const image = await session.image(from);
    const layers = image.layers.map((record) => ({ kind: "published", record }) as const);
    return { view: await treeView(session, layers, `image ${from}`), name: `image ${from}` };
  } catch (error) {
    if (!(error instanceof LamellaError) || error.kind !== "not_found") throw error;
    const names = session.stages.slice(0, stage.index).flatMap(({ name }) => name ?? []);
    const near = nearest(from, names);
    throw new LamellaError("not_found", "NO_SUCH_SOURCE", `no stage or image ${JSON.stringify(from)}`, {
      hint: near.length > 0 ? `did you mean the stage ${near.join(" or ")}?` : error.hint,
      cause: error,
    });
  }
}
