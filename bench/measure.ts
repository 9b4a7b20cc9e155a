/** Measuring from outside: wall times of whole commands and of answers of helper processes, and peak memory. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Runs a command to its end and answers what it printed; one that fails throws with its errors. */
export function output(command: readonly string[], options: RunOptions = {}): string {
  const [file = "", ...args] = command;
  const { status, signal, stdout, stderr, error } = spawnSync(file, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command.join(" ")}: ${signal ?? `status ${status}`}\n${stdout}${stderr}`);
  return stdout;
}

/** Wall time of a command in milliseconds. */
export function wallMs(command: readonly string[], options: RunOptions = {}): number {
  const started = performance.now();
  output(command, options);
  return performance.now() - started;
}

/** True when `name` is an executable in PATH. */
export function installed(name: string): boolean {
  return spawnSync("sh", ["-c", 'command -v "$0"', name], { stdio: "ignore" }).status === 0;
}

/** Peak resident memory of a process so far, in bytes; 0 when it has ended. */
function peakBytes(pid: number): number {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Runs a command and answers the peak memory of its process (not of what it starts), asked for every few milliseconds. */
export async function peakOf(command: readonly string[], options: RunOptions = {}): Promise<number> {
  const [file = "", ...args] = command;
  const child = spawn(file, args, { cwd: options.cwd, env: { ...process.env, ...options.env }, stdio: "ignore" });
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, child.pid === undefined ? 0 : peakBytes(child.pid));
  }, 4);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", resolve);
  });
  clearInterval(timer);
  if (status !== 0) throw new Error(`${command.join(" ")}: status ${status}`);
  return peak;
}

/**
 * A helper that does one piece of work for each line it reads and then answers with one line. Its start is not measured:
 * this is how two programs are compared whose start would hide what they do.
 */
export class Helper implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command: readonly string[], options: RunOptions = {}) {
    const [file = "", ...args] = command;
    this.#child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (this.#child.stdout === null) throw new Error("no pipe");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Sends a line, waits for the answer. */
  async ask(line: string): Promise<{ readonly answer: string; readonly ms: number }> {
    const started = performance.now();
    this.#child.stdin?.write(`${line}\n`);
    const { value, done } = await this.#lines.next();
    const ms = performance.now() - started;
    if (done === true) throw new Error(`${this.#child.spawnargs.join(" ")} ended without an answer to ${line}`);
    return { answer: value, ms };
  }

  /** Peak memory so far, in bytes. */
  get peakBytes(): number {
    return peakBytes(this.#child.pid ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin?.end();
    await ended;
  }
}
