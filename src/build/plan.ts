/** Which stages a build needs, and what FROM names. Pure. */
import { copySourceStage, type Dockerfile, type Stage } from "../dockerfile/index.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { nearest } from "../lib/nearest.ts";

/** The stage `target` names (a name or a number), the last one without. Errors: not_found with the nearest names. */
export function targetStage(dockerfile: Dockerfile, target: string | undefined): Stage {
  const { stages } = dockerfile;
  const wanted = target?.toLowerCase();
  const found =
    wanted === undefined
      ? stages.at(-1)
      : (stages.findLast(({ name }) => name === wanted) ?? stages.find(({ index }) => String(index) === wanted));
  if (found !== undefined) return found;
  const names = stages.flatMap(({ name }) => name ?? []);
  const near = nearest(wanted ?? "", names);
  throw new LamellaError("not_found", "NO_SUCH_STAGE", `no stage ${JSON.stringify(target)} in the Dockerfile`, {
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `its stages are: ${names.join(", ") || "unnamed"}`,
  });
}

/** The earlier stage an expanded FROM image names. */
export function baseStage(stages: readonly Stage[], stage: Stage, image: string): Stage | undefined {
  const name = image.toLowerCase();
  return stages.findLast((other) => other.index < stage.index && other.name === name);
}

/**
 * The indexes of the stages that `target` needs, itself included, in the file's order. `imageOf` expands a stage's FROM.
 * Triggers of base images may need more: those are found when they come up.
 */
export function neededStages(
  stages: readonly Stage[],
  target: Stage,
  imageOf: (stage: Stage) => string,
): readonly number[] {
  const needed = new Set<number>();
  const visit = (stage: Stage): void => {
    if (needed.has(stage.index)) return;
    needed.add(stage.index);
    for (const index of dependenciesOf(stages, stage, imageOf(stage))) {
      const other = stages[index];
      if (other !== undefined) visit(other);
    }
  };
  visit(target);
  return [...needed].sort((a, b) => a - b);
}

function dependenciesOf(stages: readonly Stage[], stage: Stage, image: string): number[] {
  const found: number[] = [];
  const base = baseStage(stages, stage, image);
  if (base !== undefined) found.push(base.index);
  for (const instruction of stage.instructions) {
    const names: string[] = [];
    if (instruction.kind === "copy" && instruction.from !== undefined) names.push(instruction.from);
    if (instruction.kind === "run") {
      for (const mount of instruction.mounts) {
        const from = /(?:^|,)from=([^,]*)/i.exec(mount)?.[1];
        if (from !== undefined) names.push(from);
      }
    }
    for (const from of names) {
      const index = copySourceStage({ from }, stages, stage.index);
      if (index !== undefined) found.push(index);
    }
  }
  return found;
}
