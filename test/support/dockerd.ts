/**
 * A real dockerd for tests, with everything of its own: socket, data root, exec root, network state. It lives in a private
 * mount and PID namespace whose first process is dockerd itself, so that when it ends, containerd, every container and every
 * mount end with it, whatever happens; and it ends with this process at the latest (PR_SET_PDEATHSIG).
 *
 * One daemon serves all tests of a process: `await sharedDocker()`. It starts on first use (about 0.2 s) and stops after the
 * last test.
 */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Largest output of one docker command that is kept, in bytes. */
const maxOutputBytes = 256 * 1024 * 1024;

export interface DockerOptions {
  /** Standard input of the client. */
  readonly input?: Uint8Array | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export interface DaemonOptions {
  /** Storage driver; default overlay2. */
  readonly driver?: string | undefined;
  /** Data root that outlives the daemon; default: one of its own. */
  readonly dataRoot?: string | undefined;
}

/** A daemon that runs, and the client that talks to it. */
export class Docker {
  readonly directory: string;
  readonly #child: ChildProcess;
  #ended: Promise<void>;

  private constructor(directory: string, { driver = "overlay2", dataRoot = join(directory, "data") }: DaemonOptions) {
    this.directory = directory;
    mkdirSync(this.config);
    const log = openSync(this.logPath, "a");
    const own = (name: string): string => join(directory, name);
    this.#child = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        .concat(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"])
        .concat(["dockerd", "-s", driver, "-H", `unix://${this.socket}`])
        .concat(["--data-root", dataRoot, "--exec-root", own("exec"), "--pidfile", own("dockerd.pid")])
        .concat(["--iptables=false", "--ip6tables=false", "--bridge=none"]),
      { stdio: ["ignore", log, log], env: { ...process.env, PATH: toolPath } },
    );
    closeSync(log);
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", () => resolve());
    });
  }

  /** Starts a daemon; the string says why there is none. */
  static async start(options: DaemonOptions = {}): Promise<Docker | string> {
    const missing = missingTool();
    if (missing !== undefined) return missing;
    const docker = new Docker(mkdtempSync(join(tmpdir(), "lamella-dockerd-")), options);
    const lastChance = (): void => docker.kill();
    process.once("exit", lastChance);
    let gone = false;
    docker.#ended.then(() => {
      gone = true;
      process.removeListener("exit", lastChance);
    });
    for (const end = Date.now() + 30_000; Date.now() < end && !gone; ) {
      if (existsSync(docker.socket) && docker.try(["version"]).ok) return docker;
      await sleep(50);
    }
    const reason = readFileSync(docker.logPath, "utf8").trim().split("\n").at(-1) ?? "";
    await docker.stop();
    return `dockerd does not start here: ${reason}`;
  }

  get socket(): string {
    return join(this.directory, "docker.sock");
  }

  get config(): string {
    return join(this.directory, "client");
  }

  get logPath(): string {
    return join(this.directory, "dockerd.log");
  }

  /** Runs the client; a failing command throws with all it printed. */
  run(args: readonly string[], options: DockerOptions = {}): Buffer {
    const { ok, stdout, output } = this.try(args, options);
    if (!ok) throw new Error(`docker ${args.join(" ")} failed:\n${output}`);
    return stdout;
  }

  /** Runs the client; text of its standard output without the final newline. */
  text(args: readonly string[], options: DockerOptions = {}): string {
    return this.run(args, options).toString("utf8").trimEnd();
  }

  try(args: readonly string[], options: DockerOptions = {}): { ok: boolean; stdout: Buffer; output: string } {
    const { status, stdout, stderr, error } = spawnSync("docker", ["-H", `unix://${this.socket}`, ...args], {
      input: options.input ?? "",
      maxBuffer: maxOutputBytes,
      env: this.#environment(options.env),
    });
    if (error !== undefined) throw error;
    return { ok: status === 0, stdout, output: `${stdout.toString("utf8")}${stderr.toString("utf8")}` };
  }

  /**
   * True when the daemon diffs natively. Else (the kernel's overlayfs has redirect_dir on) it compares trees and gives other
   * images: it misses what has kept size and time, and drops steps that only touched something.
   */
  nativeDiff(): boolean {
    return this.text(["info", "-f", "{{json .DriverStatus}}"]).includes('["Native Overlay Diff","true"]');
  }

  /** Builds with the classic builder, while others go on. */
  async build(context: string, args: readonly string[]): Promise<void> {
    const all = ["-H", `unix://${this.socket}`, "build", "--network=none", "--force-rm", ...args, context];
    await execute("docker", all, { env: this.#environment(), maxBuffer: maxOutputBytes });
  }

  /** Builds with BuildKit, as the daemon has it; false where no client knows it without a plugin. */
  async buildByBuildKit(context: string, args: readonly string[]): Promise<boolean> {
    const client = clients.find((path) => existsSync(path) && hasBuildKit(path));
    if (client === undefined) return false;
    const all = ["-H", `unix://${this.socket}`, "build", "--network=none", ...args, context];
    await execute(client, all, { env: this.#environment({ DOCKER_BUILDKIT: "1" }), maxBuffer: maxOutputBytes });
    return true;
  }

  #environment(more?: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
    return { ...process.env, PATH: toolPath, DOCKER_CONFIG: this.config, DOCKER_BUILDKIT: "0", ...more };
  }

  /** Stops the daemon (politely first, so that it takes its cgroups along) and removes all it kept. */
  async stop(): Promise<void> {
    for (const pid of this.#daemonPids()) {
      try {
        process.kill(pid, "SIGTERM");
      } catch {
        // It has ended meanwhile.
      }
    }
    await Promise.race([this.#ended, sleep(10_000, undefined, { ref: false })]);
    this.kill();
    await this.#ended;
    this.#removeFiles();
  }

  /** Ends the namespace at once; does nothing when it has ended. */
  kill(): void {
    this.#child.kill("SIGKILL");
    this.#removeFiles();
  }

  /** Children of `unshare`: the daemon, under the ID it has out here. */
  #daemonPids(): number[] {
    const { pid } = this.#child;
    const list = `/proc/${pid}/task/${pid}/children`;
    if (pid === undefined || !existsSync(list)) return [];
    return readFileSync(list, "utf8").split(" ").filter(Boolean).map(Number);
  }

  #removeFiles(): void {
    // Not rmSync: names in layers may be no UTF-8. A dying daemon may still be writing: what remains then goes with stop().
    spawnSync("rm", ["-rf", this.directory]);
  }
}

/** Docker's own client, and Debian's: before 23.0 it brings BuildKit's with it. */
const clients = ["/usr/local/bin/docker", "/usr/bin/docker"];

function hasBuildKit(client: string): boolean {
  const major = Number(/ version ([0-9]+)\./.exec(execFileSync(client, ["--version"], { encoding: "utf8" }))?.[1]);
  return major < 23 || spawnSync(client, ["buildx", "version"]).status === 0;
}

/** Where Debian has dockerd, whatever the PATH of the shell that runs the tests. */
const toolPath = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;

function missingTool(): string | undefined {
  if (process.getuid?.() !== 0) return "dockerd needs root";
  for (const tool of ["dockerd", "docker", "containerd", "setpriv", "unshare"]) {
    const found = toolPath.split(":").some((directory) => existsSync(join(directory, tool)));
    if (!found) return `${tool} is not installed`;
  }
  const version = execFileSync("dockerd", ["--version"], { encoding: "utf8", env: { PATH: toolPath } });
  if (!version.startsWith("Docker version")) return `dockerd is not Docker's: ${version.trim()}`;
  return undefined;
}

let shared: Promise<Docker | string> | undefined;

/** The daemon of this process's tests, or the reason why there is none. Call it while tests are being declared. */
export function sharedDocker(): Promise<Docker | string> {
  if (shared === undefined) {
    shared = Docker.start();
    after(async () => {
      const docker = await shared;
      if (docker instanceof Docker) await docker.stop();
    });
  }
  return shared;
}
