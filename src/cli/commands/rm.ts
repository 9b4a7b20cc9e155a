import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container...>")
    .option("-f, --force", "also when it is mounted")
    .addHelpText("after", '\nExample:\n  lamella rm "$id"')
    .action(async (containers: string[], { force = false }: { force?: boolean }) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const removed: string[] = [];
      await cli.each(containers, async (container) => {
        await engine.removeContainer(container, { force });
        removed.push(container);
        if (!json && !quiet) cli.print(container);
      });
      if (json) cli.printJson(removed);
    });
}
