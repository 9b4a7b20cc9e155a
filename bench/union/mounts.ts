/** The three union file systems that are compared: ours, fuse-overlayfs, and the kernel's overlay, all with one interface. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { installed, output } from "../measure.ts";
import { repository } from "../places.ts";
import { Unavailable } from "../row.ts";

export const unions = ["lamella-overlay", "fuse-overlayfs", "overlay"] as const;
export type UnionName = (typeof unions)[number];

export interface Layers {
  /** The uppermost first. */
  readonly lowers: readonly string[];
  readonly upper: string;
  readonly work: string;
}

const MOUNT_TRIES = 2000;

/** One union, mounted. */
export class UnionMount implements AsyncDisposable {
  readonly target: string;
  readonly #server: ChildProcess | undefined;

  private constructor(target: string, server: ChildProcess | undefined) {
    this.target = target;
    this.#server = server;
  }

  /** Mounts at an empty directory. What the kernel's redirects and metacopy allow, the two that know them are allowed. */
  static async make(name: UnionName, { lowers, upper, work }: Layers, target: string): Promise<UnionMount> {
    const layers = `lowerdir=${lowers.join(":")},upperdir=${upper},workdir=${work}`;
    const moves = "redirect_dir=on,metacopy=on";
    if (name === "overlay") {
      output(["mount", "-t", "overlay", "-o", `${layers},${moves},index=off`, "overlay", target]);
      return new UnionMount(target, undefined);
    }
    const ours = [process.execPath, join(repository, "bin/lamella-overlay.js"), "-f", "-o", `${layers},${moves}`];
    if (name === "fuse-overlayfs" && !installed(name)) throw new Unavailable(`${name} is not installed`);
    const [file = "", ...args] = name === "lamella-overlay" ? ours : [name, "-f", "-o", layers];
    const server = spawn(file, [...args, target], { stdio: ["ignore", "ignore", "inherit"] });
    for (let tries = 0; !isMounted(target); tries++) {
      if (server.exitCode !== null || tries === MOUNT_TRIES) throw new Error(`${name} did not mount ${target}`);
      await sleep(5);
    }
    return new UnionMount(target, server);
  }

  /** Resident memory of the process that serves it, in bytes; 0 for the kernel's. */
  get residentBytes(): number {
    if (this.#server === undefined) return 0;
    const status = readFileSync(`/proc/${this.#server.pid}/status`, "latin1");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = this.#server;
    const ended = server && new Promise((resolve) => server.once("exit", resolve));
    output(["umount", this.target]);
    await ended;
  }
}

function isMounted(target: string): boolean {
  return readFileSync("/proc/self/mountinfo", "latin1").includes(` ${target} `);
}
