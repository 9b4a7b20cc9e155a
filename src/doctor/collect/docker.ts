/**
 * Docker: every daemon whose socket is known (DOCKER_HOST, the rootless one, the usual one, that of a daemon which names a
 * data root the caller asked for in its arguments), and data roots where none runs.
 */
import { join, resolve } from "node:path";
import type { DockerFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import type { DoctorOptions } from "../options.ts";
import { dockerData } from "./docker-data.ts";
import { type DaemonProcess, daemonProcesses } from "./docker-processes.ts";
import { getJson } from "./unix-http.ts";

/** Answers with a daemon's facts by its socket; tests have their own. */
export type AskDocker = (socket: string, path: string, signal?: AbortSignal) => Promise<unknown>;

interface Configuration {
  readonly path: string;
  readonly root: string | undefined;
  readonly driver: string | undefined;
  readonly buildkit: boolean;
}

/** `roots`: data roots of Docker that the caller named. */
export async function dockerFacts(
  host: HostView,
  options: DoctorOptions,
  roots: readonly string[],
  ask: AskDocker = getJson,
): Promise<DockerFacts[]> {
  const processes = daemonProcesses(host);
  const found: DockerFacts[] = [];
  const known = new Set<string>();
  let isAllTold = true;
  for (const socket of sockets(host, options, processes)) {
    const daemon = await askDaemon(host, { socket, processes, ask, signal: options.signal });
    isAllTold &&= daemon !== undefined;
    if (daemon === undefined || known.has(daemon.root)) continue;
    known.add(daemon.root);
    found.push(daemon);
  }
  for (const root of [...roots, ...usualRoots(host, options)]) {
    if (known.has(root) || !host.exists(root)) continue;
    known.add(root);
    const asked = askedDriver(
      host,
      processes.find((one) => one.root === root),
      root,
    );
    // A daemon that does not talk to us may be the one of this root.
    const running = isAllTold ? { running: false } : {};
    found.push(withData(host, { ...running, status: [], containerdStore: false, warnings: [], root, ...asked }));
  }
  return found;
}

/** Paths of the sockets there are, the one the caller asked for first. */
export function sockets(
  host: HostView,
  { env, uid, onlyRoots, roots = [] }: DoctorOptions,
  processes: readonly DaemonProcess[],
): string[] {
  const asked = env.DOCKER_HOST ?? "";
  if (asked !== "" && !asked.startsWith("unix://"))
    host.missed(`DOCKER_HOST=${asked}`, "only daemons of this machine are looked at, by their unix sockets");
  const named = asked.startsWith("unix://") ? [asked.slice("unix://".length)] : [];
  for (const path of named) if (!host.exists(path)) host.missed(path, "there is no such socket (DOCKER_HOST)");
  const candidates = [
    ...named,
    ...processes.filter(({ root }) => root !== undefined && roots.includes(root)).flatMap((one) => one.sockets),
    ...(onlyRoots ? [] : [join(env.XDG_RUNTIME_DIR || `/run/user/${uid}`, "docker.sock")]),
    ...(onlyRoots ? [] : ["/run/docker.sock", "/var/run/docker.sock"]),
  ];
  // /var/run mostly is a link to /run.
  const byInode = new Map<string, string>();
  for (const path of candidates) {
    const stat = host.stat(path);
    if (stat?.isSocket() && !byInode.has(`${stat.dev}:${stat.ino}`)) byInode.set(`${stat.dev}:${stat.ino}`, path);
  }
  return [...byInode.values()];
}

function usualRoots(host: HostView, { env, onlyRoots }: DoctorOptions): string[] {
  if (onlyRoots) return [];
  const home = env.HOME || "/root";
  const rootless = join(env.XDG_DATA_HOME || join(home, ".local/share"), "docker");
  return [configuration(host, "/etc/docker/daemon.json")?.root ?? "/var/lib/docker", rootless];
}

interface Question {
  readonly socket: string;
  readonly processes: readonly DaemonProcess[];
  readonly ask: AskDocker;
  readonly signal: AbortSignal | undefined;
}

async function askDaemon(
  host: HostView,
  { socket, processes, ask, signal }: Question,
): Promise<DockerFacts | undefined> {
  let info: Record<string, unknown>;
  try {
    info = recordOf(await ask(host.at(socket), "/info", signal));
  } catch (error) {
    signal?.throwIfAborted();
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "EACCES" ? "you may not talk to this daemon" : `nothing useful answers: ${message}`;
    host.missed(socket, why);
    return undefined;
  }
  const status = pairsOf(info.DriverStatus);
  const root = textOf(info.DockerRootDir) ?? "/var/lib/docker";
  const of = processes.find((one) => one.sockets.includes(socket)) ?? processes.find((one) => one.root === root);
  const version = textOf(info.ServerVersion);
  const driver = textOf(info.Driver);
  return withData(host, {
    socket,
    running: true,
    ...(version !== undefined && { version }),
    ...(driver !== undefined && { driver }),
    status,
    containerdStore: status.some(([key, value]) => key === "driver-type" && value.includes("snapshotter")),
    warnings: Array.isArray(info.Warnings) ? info.Warnings.filter((one) => typeof one === "string") : [],
    root,
    ...askedDriver(host, of, root),
    ...(configuration(host, of?.configFile ?? "/etc/docker/daemon.json")?.buildkit === true && { buildkit: true }),
  });
}

/** What lies in the data root, and which driver it is about. */
function withData(host: HostView, facts: DockerFacts): DockerFacts {
  const data = dockerData(host, facts.root, facts.containerdStore ? undefined : (facts.driver ?? facts.asked?.driver));
  if (data === undefined) return facts;
  const driver = facts.driver ?? data.driver;
  return { ...facts, ...(driver !== undefined && { driver }), data };
}

/** Arguments before the file, as dockerd has it (it refuses to start with both). */
function askedDriver(
  host: HostView,
  daemon: DaemonProcess | undefined,
  root: string,
): { asked?: { driver: string; source: string } } {
  if (daemon?.driver !== undefined)
    return { asked: { driver: daemon.driver, source: `arguments of dockerd (process ${daemon.pid})` } };
  const file = configuration(host, daemon?.configFile ?? "/etc/docker/daemon.json");
  const isOfRoot = daemon !== undefined || (file?.root ?? "/var/lib/docker") === root;
  return file?.driver !== undefined && isOfRoot ? { asked: { driver: file.driver, source: file.path } } : {};
}

function configuration(host: HostView, path: string): Configuration | undefined {
  const text = host.text(path);
  if (text === undefined) return undefined;
  try {
    const file = recordOf(JSON.parse(text));
    const root = textOf(file["data-root"]) ?? textOf(file.graph);
    const features = typeof file.features === "object" && file.features !== null ? recordOf(file.features) : {};
    return {
      path,
      root: root === undefined ? undefined : resolve(root),
      driver: textOf(file["storage-driver"]),
      buildkit: features.buildkit === true,
    };
  } catch {
    host.missed(path, "it is not JSON");
    return undefined;
  }
}

function recordOf(value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new Error("the answer is not a JSON object");
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function pairsOf(value: unknown): [string, string][] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((pair: unknown) => {
    const [key, text] = Array.isArray(pair) ? pair : [];
    return typeof key === "string" && typeof text === "string" ? [[key, text] as [string, string]] : [];
  });
}
