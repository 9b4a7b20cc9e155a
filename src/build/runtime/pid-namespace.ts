/**
 * The pid namespace of a thread that runs containers, and the process that keeps it alive.
 *
 * The thread unshares it once; from then on its children live in it. Process 1 is a shell that mounts the namespace's /proc
 * (only a process inside it can) and then waits for lines on a pipe from us: an empty one means "kill everything else here".
 * When Lamella dies, however it dies, the pipe ends, process 1 exits, and the kernel kills all that was started in the
 * namespace; with it go their mounts. So neither kill -9 nor a crash leaves a container running.
 *
 * Process 1 holds more privileges than any container does, so that none can inspect or trace it (ptrace(2) wants a superset).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { LamellaError } from "../../errors/lamella-error.ts";
import { sleepSync } from "../../fs/mounts.ts";
import { workerUrl } from "../../fs/worker-pool.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { CLONE_NEWPID, O_DIRECTORY, O_RDONLY, SEEK_SET } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";

/** Programs of the host that make starting faster; without them Node itself is process 1. */
export interface HostTools {
  readonly sh: string | undefined;
  readonly mount: string | undefined;
}

const script = `
if "$1" -t proc -o nosuid,nodev,noexec proc "$2" 2>/dev/null; then echo mounted; else echo refused; fi
while read -r line; do kill -9 -1; echo killed; done`;

export class PidNamespace {
  readonly #init: ChildProcess;
  #lines = "";
  #wake: (() => void) | undefined;
  #ended = false;
  #proc: sys.OwnedFd | undefined;
  /** Where the namespace's /proc is mounted; undefined when the kernel refuses to mount one. */
  readonly mountPoint: ByteString | undefined;

  private constructor(init: ChildProcess, mountPoint: ByteString) {
    this.#init = init;
    this.mountPoint = mountPoint;
    init.stdout?.on("data", (chunk: Buffer) => {
      this.#lines += chunk.toString("latin1");
      this.#wake?.();
    });
    init.on("exit", () => this.#end());
    init.on("error", () => this.#end());
    // Writing to a process 1 that is gone shows as its end.
    init.stdin?.on("error", () => this.#end());
  }

  /** Gives the calling thread a pid namespace and mounts its /proc at the directory `mountPoint`. Once a thread. */
  static async start(mountPoint: ByteString, tools: HostTools): Promise<PidNamespace> {
    sys.unshare(CLONE_NEWPID);
    const [command, args] =
      tools.sh !== undefined && tools.mount !== undefined
        ? [tools.sh, ["-c", script, "lamella-init", tools.mount, mountPoint]]
        : [
            process.execPath,
            [...process.execArgv, fileURLToPath(workerUrl(import.meta.url, "./pid-init")), mountPoint],
          ];
    raw.closeRangeCloexec(3);
    const init = spawn(command, args, { stdio: ["pipe", "pipe", "ignore"], env: {}, cwd: "/", detached: true });
    const namespace = new PidNamespace(init, mountPoint);
    const answer = await namespace.#line();
    if (answer === undefined)
      throw new LamellaError(
        "internal",
        "PID_NAMESPACE",
        `the first process of a pid namespace (${command}) ended early`,
      );
    if (answer === "mounted") namespace.#proc = sys.open(mountPoint, O_RDONLY | O_DIRECTORY);
    else return Object.assign(namespace, { mountPoint: undefined });
    return namespace;
  }

  /** Kills all processes of the namespace but the first, and waits until they are gone. */
  async killAll(): Promise<void> {
    const proc = this.#proc?.fd;
    if (this.#ended || (proc !== undefined && !othersLive(proc))) return;
    this.#init.stdin?.write("\n");
    await this.#line();
    // They die at once but for those in an uninterruptible call; wait a little, so that mounts are free.
    for (let i = 0; i < 200 && proc !== undefined && othersLive(proc); i++) sleepSync(i < 20 ? 1 : 10);
  }

  async #line(): Promise<string | undefined> {
    for (;;) {
      const end = this.#lines.indexOf("\n");
      if (end >= 0) {
        const line = this.#lines.slice(0, end);
        this.#lines = this.#lines.slice(end + 1);
        return line;
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }
}

/** True when the namespace whose /proc is open as `proc` has living processes beside the first. */
function othersLive(proc: number): boolean {
  sys.lseek(proc, 0, SEEK_SET);
  for (const { name } of sys.readdir(proc)) {
    if (!/^[0-9]+$/.test(name) || name === "1") continue;
    const fd = raw.openat(proc, `${name}/stat`, O_RDONLY);
    if (fd < 0) continue;
    using file = new sys.OwnedFd(fd);
    const bytes = Buffer.alloc(512);
    const n = raw.read(file.fd, bytes);
    const stat = bytes.toString("latin1", 0, Math.max(0, n));
    const state = stat.charAt(stat.lastIndexOf(")") + 2);
    if (n > 0 && state !== "Z" && state !== "X") return true;
  }
  return false;
}
