/** Loop devices over sparse files, detached and deleted on disposal. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Block devices made of sparse files. Dispose of what is stacked on them first. */
export class LoopDevices implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "lamella-loop-"));
  readonly #devices: string[] = [];

  /** A new device of this size; its path. */
  attach(sizeMiB: number): string {
    const file = join(this.#directory, String(this.#devices.length));
    run("truncate", "-s", `${sizeMiB}M`, file);
    const device = run("losetup", "--find", "--show", file).trim();
    this.#devices.push(device);
    return device;
  }

  [Symbol.dispose](): void {
    for (const device of this.#devices.splice(0).reverse()) run("losetup", "--detach", device);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Runs a program and returns what it prints; a failing one throws with what it says. */
export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
