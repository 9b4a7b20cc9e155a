/** One work on each of the three union file systems in turn, on the same lower layers and a new upper each time. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type LoopPlace, loopPlace } from "../loop-place.ts";
import { output } from "../measure.ts";
import type { Context, Result } from "../row.ts";
import { type Layers, UnionMount, type UnionName, unions } from "./mounts.ts";

/** What one round on one union took, by the name of the work: milliseconds, or what the work's unit is. */
export type Round = Readonly<Record<string, number>>;

export interface Work {
  readonly name: string;
  /** The most that ours may be of each peer's; without one the figures are for information. */
  readonly limits: Readonly<Partial<Record<Exclude<UnionName, "lamella-overlay">, number>>>;
}

export interface Comparison extends Disposable {
  /** On the file system that the layers lie on, outside of them. */
  readonly directory: string;
  /** The lower layer to fill before the first round. */
  readonly lower: string;
  /** Measures all works of the rounds that `round` makes. The mount is new for each, and nothing of it is cached. */
  run(works: readonly Work[], round: (at: UnionMount, name: UnionName) => Promise<Round>): Promise<Result[]>;
}

/** A new file system, and on it an empty lower layer. */
export function compareUnions(context: Context, type: "ext4" | "xfs" = "ext4"): Comparison {
  const place = loopPlace(context, type, "12G");
  const lower = join(place.directory, "lower");
  mkdirSync(lower);
  return {
    directory: place.directory,
    lower,
    run: (works, round) => runRounds(context, place, { lower, works, round }),
    [Symbol.dispose]: () => place[Symbol.dispose](),
  };
}

interface Plan {
  readonly lower: string;
  readonly works: readonly Work[];
  readonly round: (at: UnionMount, name: UnionName) => Promise<Round>;
}

async function runRounds(context: Context, place: LoopPlace, plan: Plan): Promise<Result[]> {
  const figures = new Map<string, number[]>();
  const key = (union: UnionName, work: string): string => `${union}: ${work}`;
  for (let pair = 0; pair < context.pairs; pair++) {
    for (const union of unions) {
      context.log(`${plan.works[0]?.name}: ${union}, round ${pair + 1} of ${context.pairs}`);
      const round = await onNewUpper(place.directory, plan, union);
      for (const [work, figure] of Object.entries(round))
        figures.set(key(union, work), [...(figures.get(key(union, work)) ?? []), figure]);
    }
  }
  return plan.works.flatMap(({ name, limits }) =>
    (["fuse-overlayfs", "overlay"] as const).map((peer) => ({
      work: `union: ${name}`,
      peer,
      ours: figures.get(key("lamella-overlay", name)) ?? [],
      theirs: figures.get(key(peer, name)) ?? [],
      ...(limits[peer] === undefined ? {} : { limit: limits[peer] }),
    })),
  );
}

async function onNewUpper(directory: string, { lower, round }: Plan, union: UnionName): Promise<Round> {
  const at = join(directory, "round");
  const layers: Layers = { lowers: [lower], upper: join(at, "upper"), work: join(at, "work") };
  for (const path of [at, layers.upper, layers.work, join(at, "merged")]) mkdirSync(path);
  // What earlier rounds wrote does not wait to be written during this one.
  output(["sync", "-f", directory]);
  let figures: Round;
  {
    await using mount = await UnionMount.make(union, layers, join(at, "merged"));
    figures = await round(mount, union);
  }
  output(["rm", "-rf", at]);
  return figures;
}
