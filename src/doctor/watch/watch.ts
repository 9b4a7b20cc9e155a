/**
 * `doctor --watch`: looks at a dockerd several times while it works, and counts what its goroutines are doing. A look is a
 * dump of all goroutines; a sample is a goroutine of a look that works on layers. It is the poor man's profiler: it sees waiting as
 * well as computing, needs nothing turned on, and costs the daemon a millisecond a look.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LamellaError, throwIfAborted } from "../../errors/lamella-error.ts";
import { parseGoroutineDump } from "../../profile/goroutine-dump.ts";
import { type Profile, type ProfileUnit, type StackSample, totalWeight } from "../../profile/profile.ts";
import type { DaemonProcess } from "../collect/docker-processes.ts";
import type { Unseen } from "../facts.ts";
import { HostView } from "../host-view.ts";
import { type ActivityShare, activitiesOf, isWork, sharesOf } from "./activity.ts";
import { type DaemonLog, knownLines, type LogLine, readDaemonLog } from "./daemon-log.ts";
import { daemonOf } from "./find-daemon.ts";
import { type DumpWay, dumpByEndpoint, dumpBySignal, type TakeDump } from "./take-dump.ts";

export interface WatchOptions {
  /** Path of the daemon's socket. */
  readonly socket: string;
  readonly looks: number;
  /** Between two looks, on average. */
  readonly intervalMs: number;
  /** Default: the endpoint where it answers, else the signal. */
  readonly way?: DumpWay | undefined;
  /** A file with the daemon's log. */
  readonly logFile?: string | undefined;
  /** Called after each look. */
  readonly onLook?: ((look: Look, number: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One dump, as far as it is about layers. */
export interface Look {
  readonly samples: readonly StackSample[];
}

/** What `lamella doctor --watch --json` prints, without the profile. */
export interface WatchReport {
  readonly schema: 1;
  readonly socket?: string;
  readonly pid?: number;
  /** How dumps were taken, or the files they were read from. */
  readonly source: string;
  /** Undefined for a profile that was not taken by looking at goroutines. */
  readonly looks?: LookCounts;
  /** What the weights of `activities` are: samples, or a profile's own unit. */
  readonly unit: ProfileUnit;
  readonly totalWeight: number;
  /** The largest first. Shares of all samples. */
  readonly activities: readonly ActivityShare[];
  readonly log?: { readonly source: string; readonly lines: readonly LogLine[] };
  readonly unseen: readonly Unseen[];
}

export interface LookCounts {
  readonly all: number;
  /** Those that found work on layers. */
  readonly busy: number;
  /** Those that found a naive diff going on. */
  readonly naive: number;
}

export interface Watched {
  readonly report: WatchReport;
  /** One sample of weight 1 for each goroutine at work in each look. */
  readonly profile: Profile;
}

/** Errors: unavailable or permission_denied when the daemon can be looked at in no way; canceled. */
export async function watch(options: WatchOptions): Promise<Watched> {
  const { socket, looks, intervalMs, onLook, signal, logFile } = options;
  const host = new HostView();
  const daemon = daemonOf(host, socket);
  const { take, way } = await chooseWay(host, daemon, options);
  const seen: Look[] = [];
  for (let i = 0; i < looks; i++) {
    // Unevenly: what is looked at goes by the clock, too (a naive diff ends with a full second).
    if (i > 0) await pause(intervalMs * (0.5 + Math.random()), signal);
    const look = lookAt(await takeOr(take, signal));
    seen.push(look);
    onLook?.(look, i + 1);
  }
  const log = readDaemonLog(host, daemon?.pid, logFile);
  const source = way === "endpoint" ? "the daemon's pprof endpoint" : "SIGUSR1";
  const base = { socket, ...(daemon !== undefined && { pid: daemon.pid }), source };
  return watchedOf(seen, base, { host, log });
}

/** The same of looks that were taken before. */
export function watchedOf(
  looks: readonly Look[],
  base: Pick<WatchReport, "source" | "socket" | "pid">,
  around: Around = {},
): Watched {
  const samples = looks.flatMap((look) => look.samples);
  const isNaive = ({ frames }: StackSample): boolean => activitiesOf(frames).includes("naive-diff");
  const counts: LookCounts = {
    all: looks.length,
    busy: looks.filter((look) => look.samples.length > 0).length,
    naive: looks.filter((look) => look.samples.some(isNaive)).length,
  };
  const profile: Profile = { name: `dockerd, ${looks.length} looks`, unit: "none", samples };
  return reportOn(profile, { ...base, looks: counts }, around);
}

interface Around {
  readonly host?: HostView;
  readonly log?: DaemonLog | undefined;
}

/** The report on a profile, however it was taken. */
export function reportOn(
  profile: Profile,
  base: Pick<WatchReport, "source" | "socket" | "pid" | "looks">,
  { host, log }: Around = {},
): Watched {
  return {
    profile,
    report: {
      schema: 1,
      ...base,
      unit: profile.unit,
      totalWeight: totalWeight(profile),
      activities: sharesOf(profile),
      ...(log !== undefined && { log: { source: log.source, lines: knownLines(log.text) } }),
      // Processes of others are looked through for the right one; what is not seen of them is not missed.
      unseen: host?.unseen.filter(({ what }) => !what.startsWith("/proc/")) ?? [],
    },
  };
}

/** The samples of one dump. Pure. */
export function lookAt(dump: string): Look {
  return {
    samples: parseGoroutineDump(dump)
      .filter(isWork)
      .map(({ frames }) => ({ frames, weight: 1 })),
  };
}

async function chooseWay(
  host: HostView,
  daemon: DaemonProcess | undefined,
  { socket, way, signal }: WatchOptions,
): Promise<{ take: TakeDump; way: DumpWay }> {
  let refusal = "";
  if (way !== "signal") {
    const take = dumpByEndpoint(socket);
    try {
      await take(signal);
      return { take, way: "endpoint" };
    } catch (error) {
      throwIfAborted(signal);
      refusal = (error as Error).message;
      if (way === "endpoint") throw unwatchable(socket, refusal, error);
    }
  }
  if (daemon === undefined) {
    const why = process.getuid?.() === 0 ? "no dockerd holds it" : "which process holds it is only for root to see";
    throw unwatchable(socket, [refusal, why].filter(Boolean).join("; "));
  }
  return { take: dumpBySignal(daemon, dumpFolders(host, daemon)), way: "signal" };
}

function unwatchable(socket: string, why: string, cause?: unknown): LamellaError {
  return new LamellaError("unavailable", "UNWATCHABLE", `${socket}: this dockerd cannot be looked at: ${why}`, {
    hint: "name its socket in DOCKER_HOST (unix://PATH), and run this as root or as a member of the group docker",
    cause,
  });
}

/** The exec root and the data root, seen as the daemon sees them. */
function dumpFolders(host: HostView, { pid, execRoot, root, configFile }: DaemonProcess): string[] {
  const file = configuration(host.text(`/proc/${pid}/root${configFile ?? "/etc/docker/daemon.json"}`));
  const environment = host.text(`/proc/${pid}/environ`)?.split("\0") ?? [];
  const runtime = environment.find((one) => one.startsWith("XDG_RUNTIME_DIR="))?.slice("XDG_RUNTIME_DIR=".length);
  const named = execRoot ?? file["exec-root"];
  const usual = ["/run/docker", ...(runtime === undefined ? [] : [join(runtime, "docker")])];
  const folders = [...(named === undefined ? usual : [named]), root ?? file["data-root"] ?? "/var/lib/docker"];
  return folders.map((path) => join(`/proc/${pid}/root`, path));
}

function configuration(text: string | undefined): Readonly<Record<string, string | undefined>> {
  try {
    return JSON.parse(text ?? "{}") ?? {};
  } catch {
    return {};
  }
}

async function takeOr(take: TakeDump, signal: AbortSignal | undefined): Promise<string> {
  try {
    return await take(signal);
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}

async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(milliseconds, undefined, signal && { signal }).catch(() => throwIfAborted(signal));
}
