/**
 * Two ways to see all goroutines of a dockerd:
 *
 * - its HTTP interface, `GET /debug/pprof/goroutine?debug=2`. Whoever may talk to the daemon may ask. Docker 20.10 answers it
 *   always; one that does not may with `"debug": true`;
 * - SIGUSR1, for which it writes `goroutine-stacks-<time>.log` into its exec root (before 1.13: the data root). The file is
 *   removed again. Only the daemon's own user and root may.
 */
import { readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { DaemonProcess } from "../collect/docker-processes.ts";
import { getText } from "../collect/unix-http.ts";

export type DumpWay = "endpoint" | "signal";

/** Answers with the text of a dump; every call takes a new one. */
export type TakeDump = (signal?: AbortSignal) => Promise<string>;

const endpoint = "/debug/pprof/goroutine?debug=2";
/** A daemon under load takes its time: it stops all its goroutines to look at them. */
const longestWaitMs = 10_000;
/**
 * The files' names have whole seconds, and a second dump in one second goes into the same file. Not all looks may come at
 * the same point of a second, as a naive diff begins and ends with one.
 */
const leastBetweenMs = 1_100;
const spreadMs = 1_000;

export function dumpByEndpoint(socket: string): TakeDump {
  return (signal) => getText(socket, endpoint, signal);
}

/** `folders`: where its dumps may appear, as this process sees them. */
export function dumpBySignal(daemon: DaemonProcess, folders: readonly string[]): TakeDump {
  let last = 0;
  return async (signal) => {
    await sleep(
      Math.max(0, last + leastBetweenMs + Math.random() * spreadMs - Date.now()),
      undefined,
      signal && { signal },
    );
    const before = new Set(folders.flatMap(dumpsIn));
    kill(daemon);
    last = Date.now();
    try {
      return await newDump(folders, before, signal);
    } finally {
      for (const path of folders.flatMap(dumpsIn)) if (!before.has(path)) rmSync(path, { force: true });
    }
  };
}

/** Other programs die of this signal: it is looked at once more who it is that gets it. */
function kill({ pid }: DaemonProcess): void {
  const program = basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
  if (program !== "dockerd")
    throw new LamellaError("failed_precondition", "DAEMON_GONE", `process ${pid} is ${program}, not dockerd, by now`);
  process.kill(pid, "SIGUSR1");
}

async function newDump(
  folders: readonly string[],
  before: ReadonlySet<string>,
  signal: AbortSignal | undefined,
): Promise<string> {
  let lastSize = -1;
  for (const end = Date.now() + longestWaitMs; Date.now() < end; ) {
    await sleep(30, undefined, signal && { signal });
    const path = folders.flatMap(dumpsIn).find((one) => !before.has(one) && basename(one).startsWith("goroutine-"));
    const size = path === undefined ? 0 : statSync(path).size;
    // Complete when it grows no more.
    if (path !== undefined && size > 0 && size === lastSize) return readFileSync(path, "utf8");
    lastSize = size;
  }
  throw new LamellaError(
    "unavailable",
    "NO_DUMP",
    `dockerd wrote no goroutine-stacks-*.log into ${folders.join(" or ")}`,
  );
}

function dumpsIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^(goroutine-stacks|daemon-data)-.*\.log$/.test(name))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
