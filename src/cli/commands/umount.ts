import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container...>")
    .addHelpText("after", '\nExample:\n  lamella umount "$id"')
    .action(async (containers: string[]) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const results: unknown[] = [];
      await cli.each(containers, async (container) => {
        const unmounted = await engine.umount(container);
        results.push({ container, unmounted });
        if (json || quiet) return;
        if (unmounted) cli.print(container);
        else cli.note(`${container} was not mounted`);
      });
      if (json) cli.printJson(results);
    });
}
