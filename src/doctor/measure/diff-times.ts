/**
 * How long it takes to find out what a small step changed on a tree: natively, by reading the directory that overlayfs
 * collected it in, and naively, by comparing the two whole trees. As Docker does, every naive diff mounts both sides anew.
 *
 * Where this process may not mount, or overlayfs does not work, the two sides are plain copies, as they are with Docker's
 * drivers vfs, btrfs and zfs; what the step wrote lies in a directory of its own for the native diff all the same.
 */
import { listChanges } from "../../diff/export-layer.ts";
import { knowsIndex } from "../../drivers/overlay2/host.ts";
import { inUserNamespace, mayMount } from "../../drivers/overlay2/trial.ts";
import { throwIfAborted } from "../../errors/lamella-error.ts";
import { openTrialOverlay } from "../../fs/overlay-mount.ts";
import { copyTreeInBackground } from "../../fs/tree-jobs.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { type Compared, dockerWalk } from "./docker-walk.ts";
import { writeStep } from "./make-tree.ts";

/** Rounds of each, at most, and when to stop for want of time. */
const mostRounds = 5;
const enoughMs = 15_000;

export interface DiffTimes {
  /** Milliseconds, one a round. */
  readonly nativeMs: readonly number[];
  readonly naiveMs: readonly number[];
  /** Names in the tree with the step's. */
  readonly entries: number;
  /** Names the step wrote. */
  readonly changes: number;
  readonly sides: "overlay mounts" | "plain copies";
  /** Why the sides are no overlays. */
  readonly whyPlain?: string;
}

export interface TimedTree {
  /** An empty directory to work in, on the file system in question. */
  readonly workspace: ByteString;
  /** The tree: layers, the uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly onProgress: (what: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export async function timeDiffs(tree: TimedTree): Promise<DiffTimes> {
  const { workspace, lowers, onProgress, signal } = tree;
  for (const name of ["empty", "upper", "work", "target"]) sys.mkdirat(AT_FDCWD, `${workspace}/${name}`, 0o755);
  const changes = writeStep(`${workspace}/upper`);
  const upper = `${workspace}/upper`;
  const whyPlain = mayMount() ? overlayError(tree) : "mounting needs root";
  const open = whyPlain === undefined ? () => openMounts(tree) : await plainCopies(tree);
  const prefix = inUserNamespace() ? "user.overlay." : "trusted.overlay.";

  const nativeMs: number[] = [];
  const naiveMs: number[] = [];
  let compared: Compared = { changes: 0, entries: 0 };
  // The first of each only warms: threads, and what the kernel remembers of files.
  for (let round = -1, spentMs = 0; round < mostRounds && (round < 1 || spentMs < enoughMs); round++) {
    onProgress(round < 0 ? "warming up" : `comparing, round ${round + 1} of ${mostRounds} at most`);
    const before = performance.now();
    await listChanges({ kind: "upper", upper, lowers, prefix }, signal);
    const between = performance.now();
    using both = open();
    compared = await dockerWalk(both.tree, both.parent, signal);
    // Unmounting flushes the file system, whoever else writes to it: that is not counted.
    const after = performance.now();
    throwIfAborted(signal);
    spentMs += after - before;
    if (round < 0) continue;
    nativeMs.push(between - before);
    naiveMs.push(after - between);
  }
  return {
    nativeMs,
    naiveMs,
    entries: compared.entries,
    changes,
    sides: whyPlain === undefined ? "overlay mounts" : "plain copies",
    ...(whyPlain !== undefined && { whyPlain }),
  };
}

interface Both extends Disposable {
  readonly tree: sys.OwnedFd;
  readonly parent: sys.OwnedFd;
}

function overlayError(tree: TimedTree): string | undefined {
  try {
    openMounts(tree)[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return `overlayfs does not work here: ${(error as Error).message}`;
  }
}

/** The view of the step and that of its parent, as Docker's overlay2 mounts them. */
function openMounts({ workspace, lowers }: TimedTree): Both {
  const owned = new Disposables();
  const options = [...(knowsIndex() ? ["index=off"] : []), ...(inUserNamespace() ? ["userxattr"] : [])];
  const target = `${workspace}/target`;
  try {
    const upper = `${workspace}/upper`;
    const tree = owned.use(openTrialOverlay({ lowers, upper, work: `${workspace}/work`, options }, target));
    const [only = "", ...more] = lowers;
    // Of a single layer Docker takes the directory itself.
    const parent = owned.use(
      more.length === 0
        ? sys.open(only, O_RDONLY | O_DIRECTORY)
        : openTrialOverlay({ lowers, upper: undefined, work: undefined, options }, target),
    );
    return { tree, parent, [Symbol.dispose]: () => owned[Symbol.dispose]() };
  } catch (error) {
    owned[Symbol.dispose]();
    throw error;
  }
}

/** Two copies of the tree, one of them with what the step wrote. Only of a tree of one layer. */
async function plainCopies({ workspace, lowers, onProgress, signal }: TimedTree): Promise<() => Both> {
  const [only = ""] = lowers;
  const copy = `${workspace}/copy`;
  onProgress("copying the tree");
  await copyTreeInBackground(only, copy, signal && { signal });
  writeStep(copy);
  return () => {
    const tree = sys.open(copy, O_RDONLY | O_DIRECTORY);
    const parent = sys.open(only, O_RDONLY | O_DIRECTORY);
    const dispose = (): void => {
      tree[Symbol.dispose]();
      parent[Symbol.dispose]();
    };
    return { tree, parent, [Symbol.dispose]: dispose };
  };
}
