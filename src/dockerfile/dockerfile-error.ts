/** Errors in Dockerfiles: LamellaErrors that know the lines they are about. */
import { LamellaError, type LamellaErrorOptions } from "../errors/lamella-error.ts";

/** Lines of the file, counted from 1, both included. */
export interface LineRange {
  readonly startLine: number;
  readonly endLine: number;
}

/** A Dockerfile does not say what it should; `message` begins with `Dockerfile:LINE: `. */
export class DockerfileError extends LamellaError {
  readonly startLine: number;
  readonly endLine: number;
  /** The message without the place. */
  readonly problem: string;

  constructor(
    code: string,
    problem: string,
    lines: LineRange,
    options: LamellaErrorOptions & { fileName?: string } = {},
  ) {
    super("invalid_argument", code, `${options.fileName ?? "Dockerfile"}:${lines.startLine}: ${problem}`, options);
    this.name = "DockerfileError";
    this.problem = problem;
    this.startLine = lines.startLine;
    this.endLine = lines.endLine;
  }
}

/** The nearest of `candidates` to a mistyped `word`, at most two letters away, as a hint. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.ceil(word.length / 2) + 1);
  for (const candidate of candidates) {
    const distance = editDistance(word.slice(0, 32).toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best === undefined ? undefined : `did you mean ${best}?`;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitute, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
