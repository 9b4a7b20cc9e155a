/**
 * Stopping an engine and starting it as it was. A dockerd that is a service of systemd is left to systemd, with the sockets
 * that would start it again. Any other is ended by SIGTERM and started with the same program, arguments, environment and
 * directory, which /proc tells; so it must run in this process's namespaces.
 *
 * Containers that ran are started again; what Docker's restart policies bring back is left alone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LamellaError } from "../../errors/lamella-error.ts";
import { type DaemonProcess, daemonProcesses } from "../collect/docker-processes.ts";
import { getJson, postNothing } from "../collect/unix-http.ts";
import type { DockerFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import type { CureHost } from "./cure-host.ts";

/** A daemon, and all that is needed to start it again. */
export interface EngineHandle {
  readonly name: string;
  readonly root: string;
  readonly socket: string;
  readonly start: ServiceStart | ProcessStart;
  /** That run, to be started again. */
  readonly containers: readonly EngineContainer[];
}

export interface EngineContainer {
  readonly id: string;
  readonly name: string;
}

interface ServiceStart {
  readonly how: "service";
  /** The service, and the active sockets that start it. */
  readonly units: readonly string[];
}

interface ProcessStart {
  readonly how: "process";
  readonly program: string;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  /** File that its output goes to; undefined where that is none. */
  readonly output?: string;
}

/** The longest that dockerd takes to end: it gives its containers 15 s and more. */
const stopMs = 120_000;
const startMs = 60_000;
const pollMs = 50;

/**
 * What runs behind a daemon that answers. Errors: failed_precondition (ENGINE_UNKNOWN) when it cannot be told how to start it
 * again.
 */
export async function findEngine(host: CureHost, docker: DockerFacts): Promise<EngineHandle> {
  const { root, socket } = docker;
  const process = findProcess(host.view, docker);
  if (socket === undefined || process === undefined) throw unknown(root, "its process is not to be seen from here");
  const start = (await serviceOf(host, process.pid)) ?? processStart(host.view, process.pid, root);
  const name = `Docker (${root})`;
  return { name, root, socket, start, containers: await containersOf(host.view.at(socket)) };
}

function findProcess(view: HostView, { root, socket }: DockerFacts): DaemonProcess | undefined {
  const all = daemonProcesses(view);
  return (
    all.find((one) => one.root === root) ??
    all.find((one) => one.root === undefined && socket !== undefined && one.sockets.includes(socket))
  );
}

/** The service whose main process it is. */
async function serviceOf(host: CureHost, pid: number): Promise<ServiceStart | undefined> {
  const cgroups = host.view.text(`/proc/${pid}/cgroup`) ?? "";
  const service = /\/([^/\n]+\.service)$/m.exec(cgroups)?.[1];
  if (service === undefined) return undefined;
  const show = async (property: string): Promise<string> =>
    (await host.run(["systemctl", "show", "-p", property, "--value", service])).trim();
  try {
    if ((await show("MainPID")) !== String(pid)) return undefined;
  } catch {
    // No systemd answers: a cgroup of that name in a container.
    return undefined;
  }
  const sockets = (await show("TriggeredBy")).split(/\s+/).filter((unit) => unit.endsWith(".socket"));
  return { how: "service", units: [...sockets, service] };
}

function processStart(view: HostView, pid: number, root: string): ProcessStart {
  for (const space of ["mnt", "pid", "net", "user"])
    if (view.link(`/proc/${pid}/ns/${space}`) !== view.link(`/proc/self/ns/${space}`))
      throw unknown(root, "it runs in namespaces of its own, a container perhaps");
  const words = (name: string): string[] => (view.text(`/proc/${pid}/${name}`) ?? "").split("\0").slice(0, -1);
  const program = view.link(`/proc/${pid}/exe`);
  const cwd = view.link(`/proc/${pid}/cwd`);
  const argv = words("cmdline");
  if (program === undefined || cwd === undefined || argv.length === 0) throw unknown(root, "only root may see how");
  const output = view.link(`/proc/${pid}/fd/2`);
  const file = output?.startsWith("/") && view.stat(output)?.isFile() ? { output } : {};
  return { how: "process", program, argv, env: words("environ"), cwd, ...file };
}

async function containersOf(socket: string): Promise<EngineContainer[]> {
  const list = await getJson(socket, "/containers/json");
  return (Array.isArray(list) ? list : []).map(({ Id, Names }: { Id?: unknown; Names?: unknown }) => {
    const name = Array.isArray(Names) ? String(Names[0] ?? "").replace(/^\//, "") : "";
    return { id: String(Id), name: name || String(Id).slice(0, 12) };
  });
}

function unknown(root: string, why: string): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "ENGINE_UNKNOWN",
    `nobody can tell how to start Docker (${root}) again: ${why}`,
    {
      hint: "stop it yourself, run the same command again, and start it afterwards",
    },
  );
}

/** Ends an engine and waits for its end. One that does not run is well. */
export async function stopEngine(host: CureHost, engine: EngineHandle): Promise<void> {
  if (engine.start.how === "service") {
    // The sockets first: a client would start it again.
    await host.run(["systemctl", "stop", ...engine.start.units]);
    return;
  }
  for (const pid of runningAs(host.view, engine.start)) {
    process.kill(pid, "SIGTERM");
    for (const end = Date.now() + stopMs; isAlive(host.view, pid); ) {
      if (Date.now() > end) throw stuck(engine, `process ${pid} does not end`);
      await sleep(pollMs);
    }
  }
  await sleep(pollMs);
  const [again] = runningAs(host.view, engine.start);
  if (again !== undefined) throw stuck(engine, `something starts it again (process ${again})`);
}

/**
 * Starts it, unless it runs, waits until it answers, and starts the containers that ran. One that does not start is told of by
 * `say`, and no reason to give up: a driver's containers stay behind when the driver changes.
 */
export async function startEngine(
  host: CureHost,
  engine: EngineHandle,
  { fallbackOutput, say }: { readonly fallbackOutput: string; readonly say: (message: string) => void },
): Promise<void> {
  let child: ChildProcess | undefined;
  if (engine.start.how === "service") await host.run(["systemctl", "start", ...engine.start.units]);
  else if (runningAs(host.view, engine.start).length === 0) child = spawnDaemon(engine.start, fallbackOutput);
  const socket = host.view.at(engine.socket);
  for (const end = Date.now() + startMs; !(await answers(socket)); await sleep(pollMs)) {
    const isOver = child !== undefined && (child.exitCode !== null || child.signalCode !== null);
    if (isOver || Date.now() > end)
      throw new LamellaError("failed_precondition", "ENGINE_DOES_NOT_START", `${engine.name} does not start`, {
        hint: `its log says why: ${logOf(engine, fallbackOutput)}`,
      });
  }
  const running = new Set((await containersOf(socket)).map(({ id }) => id));
  for (const { id, name } of engine.containers) {
    if (running.has(id)) continue;
    await postNothing(socket, `/containers/${id}/start`).catch((error: Error) =>
      say(`the container ${name} was not started again: ${error.message}`),
    );
  }
}

async function answers(socket: string): Promise<boolean> {
  try {
    await getJson(socket, "/info");
    return true;
  } catch {
    return false;
  }
}

/** Processes that are this daemon: the same program with the same arguments. */
function runningAs(view: HostView, { argv, program }: ProcessStart): number[] {
  return daemonProcesses(view)
    .map(({ pid }) => pid)
    .filter(
      (pid) =>
        view.link(`/proc/${pid}/exe`) === program && view.text(`/proc/${pid}/cmdline`) === `${argv.join("\0")}\0`,
    );
}

/** A zombie whose parent has not looked yet is no daemon any more, unless threads of it are still closing its files. */
function isAlive(view: HostView, pid: number): boolean {
  const stat = view.text(`/proc/${pid}/stat`);
  if (stat === undefined) return false;
  const isZombie = /^Z/.test(stat.slice(stat.lastIndexOf(")") + 2));
  return !isZombie || (view.names(`/proc/${pid}/task`) ?? []).length > 1;
}

function spawnDaemon({ program, argv, env, cwd, output }: ProcessStart, fallback: string): ChildProcess {
  const log = openSync(output ?? fallback, "a", 0o600);
  try {
    const [argv0 = program, ...args] = argv;
    const child = spawn(program, args, {
      argv0,
      cwd,
      env: Object.fromEntries(env.map((one) => [one.slice(0, one.indexOf("=")), one.slice(one.indexOf("=") + 1)])),
      detached: true,
      stdio: ["ignore", log, log],
    });
    child.once("error", () => {});
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

function logOf({ start }: EngineHandle, fallback: string): string {
  return start.how === "service" ? `journalctl -u ${start.units.at(-1)}` : (start.output ?? fallback);
}

function stuck({ name }: EngineHandle, why: string): LamellaError {
  return new LamellaError("failed_precondition", "ENGINE_DOES_NOT_STOP", `${name} does not stop: ${why}`, {
    hint: "stop it yourself, run the same command again, and start it afterwards",
  });
}
