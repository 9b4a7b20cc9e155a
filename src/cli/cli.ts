/**
 * What a command works with: the global options, the engine (opened when first asked for, in a user namespace where the
 * caller is not root), standard output, and the signal that Ctrl-C aborts.
 */
import type { Command } from "commander";
import type { DoubtEvent } from "../diff/export-layer.ts";
import type { Engine } from "../engine/engine.ts";
import { isLamellaError } from "../errors/lamella-error.ts";
import type { Writing } from "./disk-full.ts";
import { ExitRequest } from "./exit-request.ts";
import { type GlobalOptions, globalOptionsOf } from "./global-options.ts";
import { stderr, stdout } from "./output.ts";
import { prepareRoot } from "./prepare-root.ts";
import { reportError } from "./report-error.ts";
import { usageError } from "./usage-error.ts";

/** What a command's action gets. */
export class Cli {
  /** What the process ends with when the action returns. */
  exitStatus = 0;
  readonly argv: readonly string[];
  /** Aborted by SIGINT, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  /** What the command is writing, for when the disk turns out to be full. Default: something in the store. */
  writing: Writing | undefined;
  #engine: Promise<Engine> | undefined;
  #globals: GlobalOptions | undefined;

  constructor(argv: readonly string[], signal: AbortSignal) {
    this.argv = argv;
    this.signal = signal;
  }

  /** The global options of the command that runs. */
  globals(command: Command): GlobalOptions {
    this.#globals ??= globalOptionsOf(command);
    return this.#globals;
  }

  /**
   * The engine over the store that the options name. Where this process may not mount, the whole command line runs again
   * inside a user namespace, and this process ends with its status: ask for the engine before doing anything.
   */
  async engine(command: Command, { forSteps = false } = {}): Promise<Engine> {
    await this.enterUserNamespace(command);
    const globals = this.globals(command);
    this.writing = { path: globals.root, neededBytes: undefined };
    this.#engine ??= this.#open(globals, forSteps);
    return this.#engine;
  }

  /**
   * Returns where mounting is allowed, having told what there is to tell of the options; elsewhere starts over in a user
   * namespace and throws ExitRequest at its end.
   */
  async enterUserNamespace(command: Command): Promise<void> {
    const { mayMount } = await import("./privileges.ts");
    const { root, notes, quiet } = this.globals(command);
    if (mayMount()) {
      if (!quiet) for (const note of notes) this.note(`note: ${note}`);
      return;
    }
    const { runInUserNamespace } = await import("./userns.ts");
    const program = [process.execPath, ...process.execArgv, process.argv[1] ?? "", ...this.argv];
    throw new ExitRequest(await runInUserNamespace(program, { LAMELLA_ROOT: root }));
  }

  async #open({ root, driver, driverOptions, quiet }: GlobalOptions, forSteps: boolean): Promise<Engine> {
    if (forSteps) (await import("../engine/start-steps.ts")).startStepThread();
    prepareRoot(root);
    const { Engine } = await import("../engine/engine.ts");
    if (!quiet) await this.#tellDoubts();
    return Engine.open({ root, driver, driverOptions, forSteps, signal: this.signal });
  }

  /** Says, once each, why a diff takes long. */
  async #tellDoubts(): Promise<void> {
    const { doubtChannel } = await import("../diff/export-layer.ts");
    const told = new Set<string>();
    doubtChannel.subscribe((event) => {
      const { reason } = event as DoubtEvent;
      if (!told.has(reason)) this.note(`note: the layer and its parent were compared whole: ${reason}`);
      told.add(reason);
    });
  }

  /** Writes to standard output; the newline is the caller's. */
  write(text: string | Uint8Array): void {
    stdout.write(text);
  }

  /** Prints one line. */
  print(line: string): void {
    stdout.write(`${line}\n`);
  }

  printJson(value: unknown): void {
    stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }

  /** One line on standard error: for people, not for scripts. */
  note(line: string): void {
    stderr.write(`${line}\n`);
  }

  /** Runs `body` for each name; one that fails does not keep the others from their turn. Fails at the end if any did. */
  async each(names: readonly string[], body: (name: string) => Promise<void>): Promise<void> {
    for (const name of names) {
      try {
        await body(name);
      } catch (error) {
        if (error instanceof ExitRequest || isLamellaError(error, "canceled")) throw error;
        this.exitStatus = reportError(error);
      }
    }
  }

  /** The creation time that SOURCE_DATE_EPOCH asks for, RFC 3339. Errors: USAGE when it is no number. */
  createdAt(): string | undefined {
    const seconds = this.sourceDateEpoch();
    return seconds === undefined ? undefined : new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
  }

  /** SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/) in seconds. Errors: USAGE. */
  sourceDateEpoch(): number | undefined {
    const text = process.env.SOURCE_DATE_EPOCH;
    if (text === undefined || text === "") return undefined;
    if (!/^[0-9]{1,11}$/.test(text))
      throw usageError(`SOURCE_DATE_EPOCH is ${JSON.stringify(text)}, not seconds since 1970`);
    return Number(text);
  }

  async close(): Promise<void> {
    const engine = await this.#engine?.catch(() => undefined);
    await engine?.[Symbol.asyncDispose]();
  }
}
