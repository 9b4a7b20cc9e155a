import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image...>")
    .option("-f, --force", "also with several tags, or containers on it")
    .addHelpText("after", "\nExample:\n  lamella rmi app:1.0")
    .action(async (images: string[], { force = false }: { force?: boolean }) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const all: unknown[] = [];
      await cli.each(images, async (image) => {
        for (const item of await engine.removeImage(image, { force })) {
          all.push(item);
          if (json || quiet) continue;
          if (item.kind === "untagged") cli.print(`Untagged: ${item.tag}`);
          else cli.print(`Deleted: ${item.kind === "deleted_image" ? item.id : item.chainId}`);
        }
      });
      if (json) cli.printJson(all);
    });
}
