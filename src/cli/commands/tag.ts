import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image>")
    .argument("<name>", "name[:tag] to give it")
    .addHelpText("after", "\nExample:\n  lamella tag app app:1.0")
    .action(async (image: string, name: string) => {
      const engine = await cli.engine(command);
      const tag = await engine.tag(image, name);
      if (cli.globals(command).json) cli.printJson({ image, tag });
    });
}
