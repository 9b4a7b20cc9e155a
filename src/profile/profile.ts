/**
 * Profiles: what a program was doing, as stacks with weights. The readers (./goroutine-dump.ts, ./pprof.ts, ./folded.ts) and
 * the writers (./folded.ts, ./speedscope.ts, ./flame-tree.ts) meet in the one type here. Pure: bytes and text in, values out.
 */

/** What the weights count. The names are those of speedscope's file format. */
export type ProfileUnit = "none" | "nanoseconds" | "bytes";

export interface StackSample {
  /** Names of functions, from the outermost to the one that ran. Never empty. */
  readonly frames: readonly string[];
  readonly weight: number;
}

export interface Profile {
  /** What was looked at, for people. */
  readonly name: string;
  readonly unit: ProfileUnit;
  readonly samples: readonly StackSample[];
}

/** Sum of the weights. */
export function totalWeight({ samples }: Profile): number {
  return samples.reduce((sum, { weight }) => sum + weight, 0);
}

/** The same profile with one sample for each stack, the heaviest first. */
export function mergeSamples(profile: Profile): Profile {
  const merged = new Map<string, { frames: readonly string[]; weight: number }>();
  for (const { frames, weight } of profile.samples) {
    const key = frames.join("\n");
    const same = merged.get(key);
    if (same === undefined) merged.set(key, { frames, weight });
    else same.weight += weight;
  }
  return { ...profile, samples: [...merged.values()].sort((a, b) => b.weight - a.weight) };
}
