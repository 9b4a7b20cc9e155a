import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image>")
    .option("--name <name>", "name of the container")
    .addHelpText(
      "after",
      '\nPrints the container\'s ID and nothing else.\n\nExample:\n  id=$(lamella create app)\n  cd "$(lamella mount "$id")"',
    )
    .action(async (image: string, { name }: { name?: string }) => {
      const engine = await cli.engine(command);
      const id = await engine.create({ image, name });
      if (cli.globals(command).json) cli.printJson({ id });
      else cli.print(id);
    });
}
