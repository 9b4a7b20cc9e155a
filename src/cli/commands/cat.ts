import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image>", "image or container")
    .argument("<path...>", "files in it")
    .addHelpText("after", "\nExample:\n  lamella cat app /etc/os-release")
    .action(async (image: string, paths: string[]) => {
      const engine = await cli.engine(command);
      for (const path of paths) {
        for await (const chunk of engine.cat(image, path, { signal: cli.signal })) cli.write(chunk);
      }
    });
}
