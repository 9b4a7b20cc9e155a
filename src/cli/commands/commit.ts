import type { Command } from "commander";
import type { Cli } from "../cli.ts";

interface Options {
  readonly author?: string;
  readonly message?: string;
}

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container>")
    .argument("[name]", "name[:tag] of the image")
    .option("-a, --author <text>", "author of the image")
    .option("-m, --message <text>", "comment of the image's history")
    .addHelpText("after", '\nPrints the ID of the image.\n\nExample:\n  lamella commit "$id" app:patched')
    .action(async (container: string, name: string | undefined, { author, message }: Options) => {
      const epoch = cli.sourceDateEpoch();
      const engine = await cli.engine(command);
      const image = await engine.commit(container, {
        name,
        author,
        comment: message,
        createdAt: cli.createdAt(),
        clampMtimeSec: epoch,
        signal: cli.signal,
      });
      if (cli.globals(command).json) cli.printJson(image);
      else cli.print(image.id);
    });
}
