import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<name...>", "images and containers")
    .addHelpText("after", "\nExample:\n  lamella inspect app:1.0")
    .action(async (names: string[]) => {
      const engine = await cli.engine(command);
      const found: unknown[] = [];
      for (const name of names) found.push(await engine.inspect(name));
      cli.write(`${JSON.stringify(found, undefined, 4)}\n`);
    });
}
