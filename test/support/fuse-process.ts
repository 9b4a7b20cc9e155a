/**
 * A process that serves a mount. Whoever serves a mount cannot use it, and a test's calls on a mount block its thread; so
 * each mount has a process of its own, in the mount namespace of the thread that starts it.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { umount } from "../../src/fs/mounts.ts";

/** Serves a mount until it is disposed, which unmounts and waits for the process to end well. */
export class FuseProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #target: string;
  readonly #ended: Promise<unknown[]>;

  private constructor(child: ChildProcess, target: string) {
    this.#child = child;
    this.#target = target;
    this.#ended = once(child, "exit");
  }

  /** Runs `program` of this folder with arguments, and waits until it says that it is ready. `target`: where it mounts. */
  static async start(
    program: string,
    args: readonly string[],
    target: string,
    options: Pick<SpawnOptions, "uid" | "gid"> = {},
  ): Promise<FuseProcess> {
    const script = join(import.meta.dirname, program);
    const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      ...options,
    });
    const served = new FuseProcess(child, target);
    const said: Promise<unknown[]> = once(child.stdout as NodeJS.ReadableStream, "data");
    const [first] = await Promise.race([said, served.#ended]);
    if (String(first) !== "ready\n") throw new Error(`${program} did not mount: ${first}`);
    return served;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    umount(this.#target);
    const late = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    const [status, signal] = (await this.#ended) as [number | null, string | null];
    clearTimeout(late);
    if (status !== 0) throw new Error(`the process of ${this.#target} ended with ${status ?? signal}`);
  }
}
