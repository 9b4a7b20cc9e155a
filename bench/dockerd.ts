/** A dockerd of our own: own socket, data and exec root, no bridge and no firewall rules, ended by its process id. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { installed, output, type RunOptions } from "./measure.ts";
import { Unavailable } from "./row.ts";

export class Dockerd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #socket: string;
  /** For when the benchmark is ended by a signal. */
  readonly #stop = (): void => void this.#child.kill("SIGTERM");

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.#socket = socket;
    process.on("exit", this.#stop);
  }

  /** Starts dockerd with its data below `home` and waits until it answers. */
  static async start(home: string, options: { readonly driver?: string } = {}): Promise<Dockerd> {
    for (const program of ["dockerd", "docker", "containerd"]) {
      if (!installed(program)) throw new Unavailable(`${program} is not installed`);
    }
    if (process.getuid?.() !== 0) throw new Unavailable("dockerd needs root");
    mkdirSync(home, { recursive: true });
    // The path of a Unix socket may have at most 107 bytes.
    const runtime = output(["mktemp", "-d"]).trim();
    const socket = join(runtime, "docker.sock");
    const config = join(runtime, "daemon.json");
    writeFileSync(config, "{}");
    const log = openSync(join(home, "dockerd.log"), "a");
    const args = ["--config-file", config, "--data-root", join(home, "data"), "--exec-root", join(runtime, "exec")];
    args.push(
      "--pidfile",
      join(runtime, "pid"),
      "-H",
      `unix://${socket}`,
      "--storage-driver",
      options.driver ?? "overlay2",
    );
    args.push("--iptables=false", "--bridge=none");
    const child = spawn("dockerd", args, { stdio: ["ignore", log, log] });
    closeSync(log);
    const dockerd = new Dockerd(child, socket);
    for (let i = 0; i < 300; i++) {
      if (child.exitCode !== null) break;
      const ping = spawnSync("docker", ["-H", `unix://${socket}`, "version"], { stdio: "ignore" });
      if (ping.status === 0) return dockerd;
      await sleep(100);
    }
    await dockerd[Symbol.asyncDispose]();
    const tail = readFileSync(join(home, "dockerd.log"), "utf8").split("\n").slice(-6).join("\n");
    throw new Unavailable(`dockerd did not start here:\n${tail}`);
  }

  /** Its address. */
  get host(): string {
    return `unix://${this.#socket}`;
  }

  /** Path of its socket. */
  get socket(): string {
    return this.#socket;
  }

  /** A docker command that talks to this daemon. */
  command(...args: readonly string[]): string[] {
    return ["docker", "-H", this.host, ...args];
  }

  docker(...args: readonly string[]): string {
    return output(this.command(...args), this.options);
  }

  /** The classic builder, without the warning. */
  readonly options: RunOptions = { env: { DOCKER_BUILDKIT: "0", DOCKER_CLI_HINTS: "false" } };

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      const ended = new Promise((resolve) => this.#child.once("exit", resolve));
      this.#child.kill("SIGTERM");
      await Promise.race([ended, sleep(20_000, undefined, { ref: false })]);
      if (this.#child.exitCode === null) this.#child.kill("SIGKILL");
    }
    process.off("exit", this.#stop);
    output(["rm", "-rf", join(this.#socket, "..")]);
  }
}
