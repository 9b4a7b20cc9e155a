import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container>")
    .addHelpText(
      "after",
      '\nPrints A (added), C (changed) or D (deleted) and the path.\n\nExample:\n  lamella diff "$id"',
    )
    .action(async (container: string) => {
      const engine = await cli.engine(command);
      const changes = await engine.diff(container, { signal: cli.signal });
      if (cli.globals(command).json) cli.printJson(changes);
      else cli.write(changes.map(({ kind, path }) => `${kind} ${path}\n`).join(""));
    });
}
