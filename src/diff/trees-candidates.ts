/**
 * Comparing two trees at the names that may differ, and nowhere else. The names make a tree of their own, which is gone down
 * in both trees at once. Directories that are new as a whole, or may differ in all that is below, are named to the caller,
 * whose threads walk them.
 *
 * A directory on the way is compared, though not named itself, when only one of the trees has it.
 */
import { BOTH, type SharedDirectory } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import { OwnedFd, openat, type Stat } from "../sys/syscalls.ts";
import type { CandidatesHint } from "./source.ts";
import { statOf, TreesComparer } from "./trees-compare.ts";
import { type DirectoryFindings, type Findings, noFindings } from "./trees-findings.ts";
import { NothingKnown } from "./trees-known.ts";
import { typeOf } from "./trees-rules.ts";

/** A name of the hint, or one on the way to it. */
interface Candidate {
  listed: boolean;
  whole: boolean;
  readonly below: Map<ByteString, Candidate>;
}

/** What was found at the candidates, and what is still to be walked: a marker and a path each. */
export interface CandidateFindings {
  readonly findings: Findings;
  readonly walks: readonly ByteString[];
}

const OPEN_DIRECTORY = C.O_RDONLY | C.O_DIRECTORY | C.O_NOFOLLOW;

/** Compares two trees, given by their roots, at the candidates. `check` is called once a directory. */
export function compareCandidates(
  roots: { readonly treeFd: number; readonly parentFd: number },
  hint: CandidatesHint,
  check: () => void,
): CandidateFindings {
  const root = candidateTree(hint);
  if (root.whole) return { findings: noFindings(), walks: [BOTH] };
  const comparer = new TreesComparer(roots.parentFd, new NothingKnown(undefined));
  const walks: ByteString[] = [];

  const compareDirectory = (fd: number, otherFd: number, path: ByteString, candidate: Candidate): void => {
    check();
    const findings: DirectoryFindings = { path, deleted: [], changed: [] };
    for (const [name, next] of candidate.below) {
      const stat = statOf(fd, name, path);
      const parent = statOf(otherFd, name, path);
      comparer.visited += (stat === undefined ? 0 : 1) + (parent === undefined ? 0 : 1);
      const pathOfName = path === "" ? name : `${path}/${name}`;
      const both = isDirectory(stat) && isDirectory(parent);
      if (next.listed || next.whole || !both) {
        const directory: SharedDirectory = { path, marker: BOTH, fd, otherFd, subdirectories: [] };
        const there = stat !== undefined && comparer.compareObjects(directory, findings, name, { stat, parent });
        if (!there && parent !== undefined) findings.deleted.push(name);
        for (const walk of directory.subdirectories)
          if (next.whole || !both) walks.push(`${walk.slice(0, 1)}${pathOfName}`);
      }
      if (next.whole || !both || next.below.size === 0) continue;
      using below = new OwnedFd(openat(fd, name, OPEN_DIRECTORY));
      using otherBelow = new OwnedFd(openat(otherFd, name, OPEN_DIRECTORY));
      compareDirectory(below.fd, otherBelow.fd, pathOfName, next);
    }
    comparer.keep(findings);
  };
  compareDirectory(roots.treeFd, roots.parentFd, "", root);
  return { findings: comparer.findings, walks };
}

function isDirectory(stat: Stat | undefined): boolean {
  return stat !== undefined && typeOf(stat) === C.S_IFDIR;
}

function candidateTree({ paths, subtrees }: CandidatesHint): Candidate {
  const root = newCandidate();
  const at = (path: ByteString): Candidate => {
    let candidate = root;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      let next = candidate.below.get(name);
      if (next === undefined) {
        next = newCandidate();
        candidate.below.set(name, next);
      }
      candidate = next;
    }
    return candidate;
  };
  for (const path of paths) at(path).listed = true;
  for (const path of subtrees) at(path).whole = true;
  return root;
}

function newCandidate(): Candidate {
  return { listed: false, whole: false, below: new Map() };
}
