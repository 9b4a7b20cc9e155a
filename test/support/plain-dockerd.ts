/**
 * A dockerd of one's own as somebody would start it by hand, in this process's namespaces, so that it can be stopped and
 * started again by others. Call `privateMounts` before. It ends with this process at the latest, also one that somebody else
 * started again: its process ID is in a file.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readMountInfo } from "../../src/fs/mountinfo.ts";
import { sleepSync, umount } from "../../src/fs/mounts.ts";

const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;

export interface PlainOptions {
  /** Default: one of its own. */
  readonly dataRoot?: string;
  /** Text of its daemon.json. */
  readonly settings?: string;
}

export class PlainDocker implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "lamella-plain-dockerd-"));
  readonly socket = join(this.directory, "docker.sock");
  readonly root: string;
  readonly settings = join(this.directory, "daemon.json");
  readonly #lastChance = (): void => this[Symbol.dispose]();

  private constructor({ dataRoot, settings = "{}\n" }: PlainOptions) {
    this.root = dataRoot ?? join(this.directory, "data");
    mkdirSync(join(this.directory, "config"));
    execFileSync("tee", [this.settings], { input: settings, stdio: ["pipe", "ignore", "inherit"] });
    process.once("exit", this.#lastChance);
  }

  /** Starts one; the string says why there is none. */
  static async start(options: PlainOptions = {}): Promise<PlainDocker | string> {
    if (process.getuid?.() !== 0) return "dockerd needs root";
    if (spawnSync("dockerd", ["--version"], { env: { PATH: path } }).status !== 0) return "dockerd is not installed";
    const docker = new PlainDocker(options);
    const child = docker.#spawn();
    for (let i = 0; i < 600 && child.exitCode === null; i++) {
      if (docker.isUp()) return docker;
      await sleep(50);
    }
    const log = readFileSync(join(docker.directory, "log"), "utf8");
    docker[Symbol.dispose]();
    throw new Error(`dockerd does not start:\n${log.slice(-3000)}`);
  }

  #spawn(): ChildProcess {
    const own = (name: string): string => join(this.directory, name);
    const log = openSync(own("log"), "a");
    const child = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "dockerd", "-H", `unix://${this.socket}`, "--config-file", this.settings]
        .concat(["--data-root", this.root, "--exec-root", own("exec"), "--pidfile", own("pid")])
        .concat(["--iptables=false", "--ip6tables=false", "--bridge=none"]),
      { stdio: ["ignore", log, log], env: { PATH: path, HOME: own("config"), MARK: "kept" } },
    );
    closeSync(log);
    return child;
  }

  /** Of the daemon that runs now, whoever started it. */
  get pid(): number | undefined {
    const file = join(this.directory, "pid");
    const pid = existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
    return pid > 0 && existsSync(`/proc/${pid}/exe`) ? pid : undefined;
  }

  isUp(): boolean {
    return existsSync(this.socket) && this.#docker(["version"]).status === 0;
  }

  /** Standard output of the client without its last newline; a failing one throws. */
  text(args: readonly string[], input: string | Uint8Array = ""): string {
    const { status, stdout, stderr } = this.#docker(args, input);
    if (status !== 0) throw new Error(`docker ${args.join(" ")}: ${stderr}`);
    return stdout.trimEnd();
  }

  /** The value of a line of `docker info` about the driver. */
  status(key: string): string | undefined {
    const pairs = JSON.parse(this.text(["info", "-f", "{{json .DriverStatus}}"])) as [string, string][];
    return pairs.find(([name]) => name === key)?.[1];
  }

  /** An image of some files. */
  importImage(name: string, script: string): void {
    const tree = mkdtempSync(join(this.directory, "tree-"));
    execFileSync("sh", ["-euc", script], { cwd: tree });
    this.text(["import", "-", name], execFileSync("tar", ["-C", tree, "-c", "."], { maxBuffer: 1 << 28 }));
  }

  #docker(
    args: readonly string[],
    input: string | Uint8Array = "",
  ): { status: number | null; stdout: string; stderr: string } {
    return spawnSync("docker", ["-H", `unix://${this.socket}`, ...args], {
      input,
      encoding: "utf8",
      maxBuffer: 1 << 28,
      env: { PATH: path, DOCKER_CONFIG: join(this.directory, "config"), DOCKER_BUILDKIT: "0" },
    });
  }

  [Symbol.dispose](): void {
    process.removeListener("exit", this.#lastChance);
    const { pid } = this;
    if (pid !== undefined) {
      process.kill(pid, "SIGTERM");
      for (let i = 0; i < 400 && hasThreads(pid); i++) {
        if (i === 200) process.kill(pid, "SIGKILL");
        sleepSync(50);
      }
    }
    for (const { mountPoint } of readMountInfo().reverse())
      if (mountPoint.startsWith(`${this.directory}/`)) umount(mountPoint);
    spawnSync("rm", ["-rf", "--one-file-system", this.directory]);
  }
}

/** False when there is nothing of a process but its zombie. One with threads left is still closing files. */
function hasThreads(pid: number): boolean {
  try {
    return existsSync(`/proc/${pid}/exe`) || readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}
