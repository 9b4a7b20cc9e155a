/** The host as cures change it: files below the view's prefix, and programs. Tests record the programs. */
import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { LamellaError } from "../../errors/lamella-error.ts";
import { systemFolders } from "../../fs/find-program.ts";
import { HostView } from "../host-view.ts";

export interface CureHost {
  readonly view: HostView;
  /** Runs a program to its end; its standard output. Errors: failed_precondition (COMMAND_FAILED) with what it says. */
  run(argv: readonly string[]): Promise<string>;
}

const execute = promisify(execFile);

/** How long something may be busy: ZFS lets go of a dataset, and the kernel of a loop device, some time after its use. */
const busyMs = 10_000;

/** Of a program's standard output: names of many thousand datasets. */
const maxOutputBytes = 64 << 20;

/** Runs a program again while it says that something is busy. Errors: as `run`. */
export async function runPatiently(host: CureHost, argv: readonly string[]): Promise<string> {
  for (const end = Date.now() + busyMs; ; await sleep(200)) {
    try {
      return await host.run(argv);
    } catch (error) {
      if (!(error instanceof Error && /\bbusy\b/i.test(error.message)) || Date.now() > end) throw error;
    }
  }
}

/** This host. */
export function realHost(): CureHost {
  return { view: new HostView(), run: runProgram };
}

async function runProgram([program = "", ...args]: readonly string[]): Promise<string> {
  const PATH = [process.env.PATH ?? "", ...systemFolders].join(":");
  try {
    const env = { ...process.env, PATH, LC_ALL: "C" };
    return (await execute(program, args, { env, maxBuffer: maxOutputBytes })).stdout;
  } catch (error) {
    const said = whatWentWrong(error as Failure);
    throw new LamellaError("failed_precondition", "COMMAND_FAILED", `${[program, ...args].join(" ")}: ${said}`, {
      cause: error,
    });
  }
}

interface Failure extends Error {
  readonly code?: string | number;
  readonly signal?: string | null;
  readonly stderr?: string;
}

function whatWentWrong({ code, signal, stderr = "", message }: Failure): string {
  if (signal) return `killed (${signal})${stderr === "" ? "" : `: ${stderr.trim()}`}`;
  if (code === "ENOENT") return "there is no such program";
  return stderr.trim() || message;
}
