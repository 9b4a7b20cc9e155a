/**
 * Runs containers in the calling thread: mounts the root, starts the engine, streams output, waits, cleans up. All in
 * namespaces of the thread, which takes them on at the first use and keeps them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import {
  AT_FDCWD,
  AT_RECURSIVE,
  CLONE_NEWIPC,
  CLONE_NEWUTS,
  MOUNT_ATTR_RDONLY,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REC,
  MS_REMOUNT,
  O_RDONLY,
  O_RDWR,
} from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { type ImageUser, resolveUser } from "../image-user.ts";
import { isUntouched } from "../root-mount.ts";
import { makeDirectories } from "../rooted-path.ts";
import { type ContainerRoot, openContainerRoot, writeFile } from "./container-root.ts";
import type {
  ContainerDurations,
  ContainerExit,
  ContainerOutput,
  ContainerSpec,
  RuntimeEngine,
} from "./container-spec.ts";
import { defaultPath, findInRoot } from "./executable.ts";
import { isMapped, readIdMaps, requireMapped } from "./id-map.ts";
import { ociSpec } from "./oci-spec.ts";
import { type HostTools, PidNamespace } from "./pid-namespace.ts";
import { dropBoundingSet, enterDirectory, enterRoot, mountSandbox, spawnAs } from "./sandbox.ts";
import type { ThreadNamespaces } from "./thread-namespaces.ts";

const signalNumbers: Readonly<Record<string, number>> = constants.signals;

export interface ContainerSurroundings {
  output(output: ContainerOutput): void;
  throwIfCanceled(): void;
}

interface Started {
  readonly child: ChildProcess;
  /** Turns what the engine itself failed at into an error; undefined: the exit is the command's. */
  readonly engineFailure: (
    code: number | null,
  ) => LamellaError | { readonly exitCode: number; readonly reason: string } | undefined;
}

/** The thread's ability to run containers. One a thread. */
export class ContainerThread {
  readonly #namespaces: ThreadNamespaces;
  readonly #engine: RuntimeEngine;
  readonly #tools: HostTools;
  readonly #idMaps = readIdMaps();
  #pids: Promise<PidNamespace> | undefined;
  #count = 0;

  constructor(namespaces: ThreadNamespaces, engine: RuntimeEngine, tools: HostTools) {
    this.#namespaces = namespaces;
    this.#engine = engine;
    this.#tools = tools;
  }

  /** Prepares what the first container would wait for. */
  async warm(): Promise<void> {
    await this.#pidNamespace();
  }

  async run(spec: ContainerSpec, surroundings: ContainerSurroundings): Promise<ContainerExit> {
    const start = performance.now();
    const pids = await this.#pidNamespace();
    const flags = this.#engine.kind === "builtin" ? CLONE_NEWIPC | CLONE_NEWUTS : 0;
    const times: { -readonly [K in keyof ContainerDurations]: number } = { prepareMs: 0, runMs: 0, cleanUpMs: 0 };
    let ended = start;
    using afterwards = new Disposables();
    const exit = await this.#namespaces.step(flags, async () => {
      using stdin = sys.open("/dev/null", O_RDWR);
      const root = openContainerRoot(spec, this.#namespaces, afterwards);
      try {
        const named = resolveUser(root.fd, spec.user ?? "");
        requireMapped(this.#idMaps, named.uid, named.gid, `user ${JSON.stringify(spec.user ?? "root")}`);
        // Supplementary groups that do not exist here can give nothing either.
        const groups = named.groups.filter((gid) => isMapped(this.#idMaps, 0, gid));
        const user = { ...named, groups: this.#idMaps.maySetGroups ? groups : [] };
        const started = this.#start(spec, root, user, pids, stdin.fd);
        if ("exitCode" in started) return started;
        times.prepareMs = performance.now() - start;
        const exit = await this.#watch(started, spec, surroundings, pids);
        ended = performance.now();
        times.runMs = ended - start - times.prepareMs;
        return exit;
      } finally {
        await pids.killAll();
        root[Symbol.dispose]();
      }
    });
    const unchanged = isUntouched(spec.root);
    times.cleanUpMs = performance.now() - ended;
    return { ...exit, ...(unchanged === undefined ? {} : { unchanged }), durations: times };
  }

  #pidNamespace(): Promise<PidNamespace> {
    this.#pids ??= PidNamespace.start(this.#namespaces.directory("proc"), this.#tools);
    return this.#pids;
  }

  /** Starts the command, or answers why it cannot be: as `docker run` counts, 126 or 127. */
  #start(
    spec: ContainerSpec,
    root: ContainerRoot,
    user: ImageUser,
    pids: PidNamespace,
    stdin: number,
  ): Started | { readonly exitCode: number } {
    const cwd = spec.cwd ?? "/";
    makeDirectories(root.fd, bytesOfText(cwd), { mode: 0o755, uid: 0, gid: 0 })[Symbol.dispose]();
    const env = completeEnvironment(spec, user);
    const path = env.find((pair) => pair.startsWith("PATH="))?.slice(5) ?? defaultPath;
    const stdio = this.#stdio(spec, stdin);
    if (this.#engine.kind !== "builtin") {
      if ((spec.mounts ?? []).length === 0) {
        const lookup = findInRoot(root.fd, spec.args[0] ?? "", path, cwd);
        if (!lookup.found) throw cannotStart(lookup.exitCode, lookup.reason);
      }
      return this.#startEngine(this.#engine, spec, root, user, env, stdio, pids);
    }
    mountSandbox(root, {
      procMount: pids.mountPoint,
      readOnly: spec.readOnly ?? false,
      ttyGroup: this.#ttyGroup(),
    });
    const lookup = findInRoot(root.fd, spec.args[0] ?? "", path, cwd);
    if (!lookup.found) throw cannotStart(lookup.exitCode, lookup.reason);
    sys.sethostname(bytesOfText(spec.hostname ?? "lamella"));
    enterRoot(root.path);
    enterDirectory(bytesOfText(cwd));
    dropBoundingSet();
    const child = spawnAs({
      executable: lookup.path,
      args: spec.args,
      env,
      user,
      maySetGroups: this.#idMaps.maySetGroups,
      stdio,
      newSession: !(spec.tty ?? false),
    });
    return { child, engineFailure: () => undefined };
  }

  #startEngine(
    engine: Exclude<RuntimeEngine, { kind: "builtin" }>,
    spec: ContainerSpec,
    root: ContainerRoot,
    user: ImageUser,
    env: readonly string[],
    stdio: readonly (number | "pipe" | "inherit")[],
    pids: PidNamespace,
  ): Started {
    const bundle = this.#namespaces.directory("bundle");
    const id = `lamella${process.pid}-${++this.#count}`;
    const log = `${bundle}/log`;
    const bindSys = this.#idMaps.nested && this.#namespaces.network === "host" ? this.#readOnlySys() : undefined;
    const config = ociSpec({
      root,
      args: spec.args,
      env,
      cwd: spec.cwd ?? "/",
      user,
      hostname: spec.hostname ?? "lamella",
      tty: spec.tty ?? false,
      readOnly: spec.readOnly ?? false,
      bindSys,
      ttyGroup: this.#ttyGroup(),
      maySetGroups: this.#idMaps.maySetGroups,
      cgroupsPath: engine.kind === "runc" ? `/lamella/${id}` : undefined,
    });
    writeFile(`${bundle}/config.json`, Buffer.from(config), 0o600);
    writeFile(log, new Uint8Array(), 0o600);
    // The engine is in the thread's pid namespace: it must see that one's /proc.
    if (pids.mountPoint !== undefined) sys.mount(pids.mountPoint, "/proc", "", MS_BIND | MS_REC, "");
    if (engine.kind === "crun") hideHybridCgroups();
    const args = [
      ...["--root", this.#namespaces.directory("state"), "--log", log, "--log-format", "json"],
      ...(engine.kind === "crun" ? ["--cgroup-manager=disabled"] : []),
      ...["run", "--bundle", bundle, id],
    ].map(textOfBytes);
    raw.closeRangeCloexec(3);
    const child = spawn(engine.path, args, { stdio: [...stdio], env: {}, cwd: "/", detached: !(spec.tty ?? false) });
    return { child, engineFailure: (code) => (code === 0 ? undefined : failureInLog(engine.kind, log)) };
  }

  /** The host's /sys, all of it read-only, to be shown where none can be mounted. */
  #readOnlySys(): ByteString {
    const path = this.#namespaces.directory("sys");
    sys.mount("/sys", path, "", MS_BIND | MS_REC, "");
    const attributes = { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };
    if (raw.mount_setattr(AT_FDCWD, path, AT_RECURSIVE, attributes) < 0)
      raw.mount("", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    return path;
  }

  async #watch(
    started: Started,
    spec: ContainerSpec,
    surroundings: ContainerSurroundings,
    pids: PidNamespace,
  ): Promise<{ readonly exitCode: number; readonly signal?: string }> {
    const { child } = started;
    child.stdout?.on("data", (chunk: Uint8Array) =>
      surroundings.output({ stream: "stdout", chunk: new Uint8Array(chunk) }),
    );
    child.stderr?.on("data", (chunk: Uint8Array) =>
      surroundings.output({ stream: "stderr", chunk: new Uint8Array(chunk) }),
    );
    child.stdin?.on("error", () => {
      // The command ended without reading all of it.
    });
    child.stdin?.end(spec.stdin);
    let canceled: unknown;
    const poll = setInterval(() => {
      try {
        surroundings.throwIfCanceled();
      } catch (error) {
        canceled ??= error;
        child.kill("SIGKILL");
        void pids.killAll();
      }
    }, 20);
    try {
      const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
        child.on("error", (error: NodeJS.ErrnoException) => {
          if (child.pid !== undefined) return;
          reject(cannotStart(error.code === "EACCES" ? 126 : 127, `${spec.args[0]}: ${error.message}`));
        });
        // What the command left running would hold its pipes open for ever.
        child.on("exit", () => void pids.killAll());
        child.on("close", (code, signal) => resolve({ code, signal }));
      });
      if (canceled !== undefined) throw canceled;
      const failure = started.engineFailure(code);
      if (failure instanceof LamellaError) throw failure;
      if (failure !== undefined) throw cannotStart(failure.exitCode, failure.reason);
      if (signal !== null) return { exitCode: 128 + (signalNumbers[signal] ?? 0), signal };
      return { exitCode: code ?? 0 };
    } finally {
      clearInterval(poll);
    }
  }

  #stdio(spec: ContainerSpec, devNull: number): readonly (number | "pipe" | "inherit")[] {
    if (spec.stdio === "inherit") return ["inherit", "inherit", "inherit"];
    return [spec.stdin === undefined ? devNull : "pipe", "pipe", "pipe"];
  }

  #ttyGroup(): boolean {
    return this.#idMaps.gids.some(({ first, count }) => first <= 5 && 5 < first + count);
  }
}

/** An error that carries the exit code `docker run` would give: 125 the engine failed, 126 not executable, 127 not found. */
export function cannotStart(exitCode: number, reason: string): LamellaError {
  const code = exitCode === 127 ? "COMMAND_NOT_FOUND" : exitCode === 126 ? "COMMAND_NOT_EXECUTABLE" : "RUNTIME_FAILED";
  return new LamellaError("failed_precondition", code, reason);
}

function completeEnvironment(spec: ContainerSpec, user: ImageUser): string[] {
  const has = (name: string): boolean => spec.env.some((pair) => pair.startsWith(`${name}=`));
  const env = [...spec.env];
  if (!has("HOME")) env.unshift(`HOME=${user.home}`);
  if (!has("HOSTNAME")) env.unshift(`HOSTNAME=${spec.hostname ?? "lamella"}`);
  if (!has("PATH")) env.unshift(`PATH=${defaultPath}`);
  if (spec.tty && !has("TERM")) env.push("TERM=xterm");
  return env;
}

/** What an OCI runtime logged as an error. */
function failureInLog(
  engine: string,
  log: ByteString,
): { readonly exitCode: number; readonly reason: string } | undefined {
  const fd = raw.openat(AT_FDCWD, log, O_RDONLY);
  if (fd < 0) return undefined;
  using file = new sys.OwnedFd(fd);
  const bytes = Buffer.alloc(64 * 1024);
  const n = raw.read(file.fd, bytes);
  for (const line of bytes.toString("utf8", 0, Math.max(0, n)).split("\n")) {
    if (!line.includes('"error"')) continue;
    const message = messageOf(line);
    if (message === undefined) continue;
    const exitCode = /not found|no such file/i.test(message) ? 127 : /permission denied/i.test(message) ? 126 : 125;
    return { exitCode, reason: `${engine}: ${message}` };
  }
  return undefined;
}

function messageOf(line: string): string | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    if (typeof entry !== "object" || entry === null) return undefined;
    const { msg, level } = entry as { msg?: unknown; level?: unknown };
    return level === "error" && typeof msg === "string" ? msg : undefined;
  } catch {
    return undefined;
  }
}

/** crun refuses to start on a host with cgroup v1 and v2 at once, though it is told to use none: show it neither. */
function hideHybridCgroups(): void {
  if (sys.statIfExists(AT_FDCWD, "/sys/fs/cgroup/unified") === undefined) return;
  raw.mount("lamella", "/sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755");
}
