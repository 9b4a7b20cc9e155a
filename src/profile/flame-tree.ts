/**
 * The tree that a flame graph draws: each node a function, as wide as the samples that passed through it. Upright it grows
 * from the outermost function; inverted from the one that ran, so that what costs time stands together whoever called it.
 * A function that calls itself directly is one node.
 */
import type { Profile } from "./profile.ts";

export interface FlameNode {
  readonly name: string;
  /** Weight of all samples here and above. */
  readonly weight: number;
  /** The heaviest first. */
  readonly children: readonly FlameNode[];
}

interface Growing {
  readonly name: string;
  weight: number;
  readonly children: Map<string, Growing>;
}

export function flameTree({ samples }: Profile, direction: "upright" | "inverted"): FlameNode {
  const root: Growing = { name: "all", weight: 0, children: new Map() };
  for (const { frames, weight } of samples) {
    const path = direction === "upright" ? frames : frames.toReversed();
    root.weight += weight;
    let at = root;
    for (const [i, name] of path.entries()) {
      if (name === path[i - 1]) continue;
      let next = at.children.get(name);
      if (next === undefined) {
        next = { name, weight: 0, children: new Map() };
        at.children.set(name, next);
      }
      next.weight += weight;
      at = next;
    }
  }
  return frozen(root);
}

function frozen({ name, weight, children }: Growing): FlameNode {
  return { name, weight, children: [...children.values()].map(frozen).sort((a, b) => b.weight - a.weight) };
}

/** Levels of the tree, the root's included. */
export function flameDepth({ children }: FlameNode): number {
  return 1 + Math.max(0, ...children.map(flameDepth));
}
