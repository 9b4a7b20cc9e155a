/** "Did you mean": the candidates that differ little from a misspelt word. */

/**
 * At most `limit` of `candidates` near `word`, the nearest first: those that a few edits (insertions, deletions,
 * substitutions, swaps of neighbours; one for every three characters begun) turn into it, or that start with it.
 */
export function nearest(word: string, candidates: Iterable<string>, limit = 3): string[] {
  const scored: { readonly candidate: string; readonly score: number }[] = [];
  const most = Math.max(1, Math.ceil(word.length / 3));
  for (const candidate of new Set(candidates)) {
    const score = candidate.startsWith(word) && word.length > 1 ? 0.5 : editDistance(word, candidate);
    if (score <= most) scored.push({ candidate, score });
  }
  scored.sort((a, b) => a.score - b.score || (a.candidate < b.candidate ? -1 : 1));
  return scored.slice(0, limit).map(({ candidate }) => candidate);
}

/** The number of edits from `a` to `b`, a swap of two neighbours counting as one (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(substitution, at(last, j) + 1, at(row, j - 1) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, at(beforeLast, j - 2) + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY;
}
