/**
 * Drives the command line as a user does: child processes on a store of their own, with a small base image made from this
 * machine's files. The compiled program is used when it is newer than every source, else the sources.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const project = join(import.meta.dirname, "../..");

/** Everything but the command's own words. */
export const program: readonly string[] = (() => {
  const compiled = join(project, "dist/cli/main.js");
  const sources = readdirSync(join(project, "src"), { recursive: true, encoding: "utf8" });
  const newest = Math.max(...sources.map((file) => statSync(join(project, "src", file)).mtimeMs));
  if (existsSync(compiled) && statSync(compiled).mtimeMs > newest) return [process.execPath, compiled];
  return [process.execPath, "--import", join(project, "test/register.mjs"), join(project, "src/cli/main.ts")];
})();

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Caller {
  /** Runs as this user and group instead of the test's. */
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A store in a temporary directory and a way to run commands on it. */
export class CliLab implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "lamella-cli-"));
  readonly root = join(this.directory, "store");
  readonly #caller: Caller;

  constructor(caller: Caller = {}) {
    this.#caller = caller;
    mkdirSync(join(this.directory, "home"));
    if (caller.uid !== undefined) {
      chownSync(this.directory, caller.uid, caller.uid);
      chownSync(join(this.directory, "home"), caller.uid, caller.uid);
    }
  }

  /** Runs `lamella` with these words. */
  lamella(...words: readonly string[]): Result {
    return this.run([...program, ...words]);
  }

  /** The standard output of a command that must succeed, without its last newline. */
  ok(...words: readonly string[]): string {
    const { status, stdout, stderr } = this.lamella(...words);
    if (status !== 0) throw new Error(`lamella ${words.join(" ")}: status ${status}\n${stderr}`);
    return stdout.replace(/\n$/, "");
  }

  json<T>(...words: readonly string[]): T {
    return JSON.parse(this.ok(...words, "--json")) as T;
  }

  /** A shell script in a mount namespace of its own, where `lamella` is a command; `exec_lamella` takes the place of the shell, for `&` and `$!`. */
  script(text: string): Result {
    const command = program.map((word) => `'${word}'`).join(" ");
    const shell = ["sh", "-euc", `lamella() { ${command} "$@"; }\nexec_lamella() { exec ${command} "$@"; }\n${text}`];
    const root = (this.#caller.uid ?? process.getuid?.()) === 0;
    return this.run([...(root ? ["unshare", "-m"] : [...program, "unshare"]), ...shell]);
  }

  run([file = "", ...args]: readonly string[], input?: string | Buffer): Result {
    const { uid } = this.#caller;
    const identity = uid === undefined ? {} : { uid, gid: uid };
    const result: SpawnSyncReturns<string> = spawnSync(file, args, {
      ...identity,
      cwd: this.directory,
      encoding: "utf8",
      input: input ?? "",
      maxBuffer: 1 << 28,
      env: {
        PATH: process.env.PATH ?? "/usr/bin:/bin",
        HOME: join(this.directory, "home"),
        LAMELLA_ROOT: this.root,
        ...this.#caller.env,
      },
    });
    if (result.error !== undefined) throw result.error;
    return { status: result.status ?? 128, stdout: result.stdout, stderr: result.stderr };
  }

  /** Why the engine cannot work here, or undefined. */
  unsupported(): string | undefined {
    const { status, stderr } = this.lamella("info");
    return status === 0 ? undefined : stderr.trim();
  }

  /** Makes the image `base` of about so many entries. */
  importBase(entries = 400): void {
    const tree = join(this.directory, "base-root");
    const made = this.run([process.execPath, join(project, "examples/base-image.mjs"), tree, String(entries)]);
    if (made.status !== 0) throw new Error(made.stderr);
    this.ok("import", tree, "base");
    rmSync(tree, { recursive: true });
  }

  [Symbol.dispose](): void {
    // Files of mapped ids belong to others outside the namespace.
    if (this.#caller.uid !== undefined) this.run([...program, "unshare", "rm", "-rf", this.root]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
