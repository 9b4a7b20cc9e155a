/** A process that serves unions to a test, one at a time, in the mount namespace of the thread that starts it. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { umount } from "../../src/fs/mounts.ts";
import type { UnionOptions } from "../../src/fuse/union/union.ts";

export class UnionServer implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  #target: string | undefined;

  constructor() {
    const script = join(import.meta.dirname, "./union-file-system-child.ts");
    this.#child = spawn(process.execPath, [...process.execArgv, script], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#child.once("exit", (status) => this.#lines.emit("line", `exit ${status}`));
  }

  /** Of the process that serves. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Mounts a union; what was mounted before has been unmounted. */
  async mount(target: string, options: UnionOptions): Promise<void> {
    const answer = this.#answer("ready");
    this.#child.stdin.write(`${JSON.stringify({ target, options })}\n`);
    await answer;
    this.#target = target;
  }

  async unmount(): Promise<void> {
    if (this.#target === undefined) return;
    const answer = this.#answer("done");
    umount(this.#target);
    this.#target = undefined;
    await answer;
  }

  async #answer(wanted: string): Promise<void> {
    const [said] = (await once(this.#lines, "line")) as unknown[];
    if (said !== wanted) throw new Error(`the union's process said ${said}, not ${wanted}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.#child.exitCode === null ? once(this.#child, "exit") : undefined;
    if (this.#child.exitCode === null) await this.unmount();
    else if (this.#target !== undefined) umount(this.#target);
    this.#child.stdin.end();
    await ended;
  }
}
