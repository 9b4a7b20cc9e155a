import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { ExitRequest } from "../exit-request.ts";
import { mayMount } from "../privileges.ts";
import { runInUserNamespace } from "../userns.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("[command...]", "program and arguments (default: a shell)")
    .passThroughOptions()
    .addHelpText(
      "after",
      "\nInside, `lamella mount` works and its mounts are seen; they end with the program.\n\n" +
        "Example:\n  lamella unshare sh -c 'ls \"$(lamella mount ID)\"'",
    )
    .action(async (program: string[]) => {
      const words = program.length > 0 ? program : [process.env.SHELL || "/bin/sh"];
      const env = { LAMELLA_ROOT: cli.globals(command).root };
      throw new ExitRequest(await (mayMount() ? runHere(words, env) : runInUserNamespace(words, env)));
    });
}

/** Already where mounts are allowed: nothing to unshare. */
async function runHere([file = "sh", ...args]: readonly string[], env: Record<string, string>): Promise<number> {
  const child = spawn(file, args, { stdio: "inherit", env: { ...process.env, ...env } });
  const [status, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return signal === null ? (status ?? 1) : 128 + constants.signals[signal];
}
