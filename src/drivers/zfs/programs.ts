/**
 * Running `zfs` and `zpool`. They are all there is between the driver and ZFS, whether that is OpenZFS's module or the daemon
 * of zfs-fuse: no library is linked, no ioctl is made. What they refuse is told from their messages, which both have in common
 * and which are English, since no locale is given to them.
 */
import { execFile, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { LamellaError } from "../../errors/lamella-error.ts";
import { systemFolders } from "../../fs/find-program.ts";
import { sleepSync } from "../../fs/mounts.ts";
import { letDaemonCatchUp } from "./catch-up.ts";

const env = { PATH: systemFolders.join(":"), LC_ALL: "C" };
/** A listing or a diff, at the most. */
const MAX_OUTPUT_BYTES = 1 << 30;
/** How long something may be busy: the daemon lets go of a file system some time after it was unmounted. */
const BUSY_MS = 3000;

/**
 * Why a program refused.
 *
 * - `missing`: what it was to work on does not exist
 * - `exists`: what it was to make exists
 * - `clones`: clones of its snapshots exist
 * - `busy`: it is mounted, or was until a moment ago
 * - `denied`: the caller may not
 * - `full`: no space, or a quota
 * - `down`: the kernel module or the daemon does not answer
 */
export type Refusal = "missing" | "exists" | "clones" | "busy" | "denied" | "full" | "down" | "other";

/** What one run of a program gave. */
export interface Answer {
  /** Undefined when it did what it was asked to. */
  readonly refusal: Refusal | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

const refusals: readonly (readonly [RegExp, Refusal])[] = [
  [/daemon is running|initialize ZFS library|\/dev\/zfs|modules? (?:is|are) not loaded|initialize libzfs/i, "down"],
  [/permission denied|must be (?:superuser|root)|not permitted/i, "denied"],
  [/dependent clones|has children/i, "clones"],
  [/busy/i, "busy"],
  [/already exists/i, "exists"],
  [/does not exist|no such (?:pool|dataset)|dataset not found/i, "missing"],
  [/out of space|no space|quota exceeded/i, "full"],
];

/** What a complaint means. */
export function refusalOf(complaint: string): Refusal {
  return refusals.find(([pattern]) => pattern.test(complaint))?.[1] ?? "other";
}

/** The two programs. Text in both directions is UTF-8; dataset names are ASCII. */
export class Programs {
  readonly zfsPath: string;
  readonly #zpoolPath: string;

  constructor(zfsPath: string, zpoolPath: string) {
    this.zfsPath = zfsPath;
    this.#zpoolPath = zpoolPath;
  }

  /** Runs `zfs`. Refusals are answered, not thrown. */
  zfs(args: readonly string[]): Promise<Answer> {
    prepare(args);
    return new Promise((resolve) => {
      const options = { env, maxBuffer: MAX_OUTPUT_BYTES, encoding: "utf8" } as const;
      execFile(this.zfsPath, args, options, (error, stdout, stderr) => {
        resolve(error === null ? done(stdout) : refused(stdout, stderr || error.message));
      });
    });
  }

  /** Runs `zfs` and blocks until it has ended. */
  zfsSync(args: readonly string[]): Answer {
    prepare(args);
    return runSync(this.zfsPath, args);
  }

  /** Like {@link zfs}, again and again while something is busy; `busy` is answered when it stays so. */
  async zfsWhenFree(args: readonly string[]): Promise<Answer> {
    for (const waitMs of waits()) {
      const answer = await this.zfs(args);
      if (answer.refusal !== "busy") return answer;
      await sleep(waitMs);
    }
    return this.zfs(args);
  }

  /** Like {@link zfsSync}, again and again while something is busy. */
  zfsWhenFreeSync(args: readonly string[]): Answer {
    for (const waitMs of waits()) {
      const answer = this.zfsSync(args);
      if (answer.refusal !== "busy") return answer;
      sleepSync(waitMs);
    }
    return this.zfsSync(args);
  }

  /** Runs `zpool` and blocks until it has ended. */
  zpoolSync(args: readonly string[]): Answer {
    return runSync(this.#zpoolPath, args);
  }
}

/** For what may unmount the dataset that is named last. */
function prepare(args: readonly string[]): void {
  if (args[0] === "destroy" || args[0] === "set") letDaemonCatchUp(args.at(-1) ?? "");
}

/** Milliseconds to wait between attempts. */
function* waits(): Generator<number> {
  for (let waitedMs = 0, waitMs = 1; waitedMs < BUSY_MS; waitMs = Math.min(waitMs * 2, 100)) {
    yield waitMs;
    waitedMs += waitMs;
  }
}

function runSync(path: string, args: readonly string[]): Answer {
  const options = { env, maxBuffer: MAX_OUTPUT_BYTES, encoding: "utf8" } as const;
  const { status, error, stdout, stderr } = spawnSync(path, args, options);
  return status === 0 ? done(stdout) : refused(stdout ?? "", stderr || (error?.message ?? "it was killed"));
}

function done(stdout: string): Answer {
  return { refusal: undefined, stdout, stderr: "" };
}

function refused(stdout: string, stderr: string): Answer {
  return { refusal: refusalOf(stderr), stdout, stderr };
}

/** What a program complained of, in one line. After a wrong argument its whole usage follows. */
export function complaintOf({ stderr }: Answer): string {
  return stderr.trim().split("\n").slice(0, 4).join("; ");
}

const errors = {
  missing: ["not_found", undefined],
  exists: ["already_exists", undefined],
  clones: ["failed_precondition", undefined],
  busy: ["failed_precondition", "see who has it mounted: `grep zfs /proc/*/mountinfo`"],
  denied: ["permission_denied", "run as root"],
  full: ["resource_exhausted", "free space in the pool, or raise the quota of the dataset"],
  down: ["unavailable", "load the module (`modprobe zfs`), or start the zfs-fuse daemon"],
  other: ["internal", undefined],
} as const satisfies Record<Refusal, readonly [LamellaError["kind"], string | undefined]>;

/** The error for a refusal that nothing can be done about. `what` names what was to be done. */
export function zfsError(what: string, answer: Answer): LamellaError {
  const [kind, hint] = errors[answer.refusal ?? "other"];
  return new LamellaError(kind, "ZFS_REFUSED", `cannot ${what}: ${complaintOf(answer)}`, { hint });
}
