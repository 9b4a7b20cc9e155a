import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addStorageOption, sizeOf } from "../container-storage.ts";

interface Options {
  readonly name?: string;
  readonly storageOpt?: Readonly<Record<string, string>>;
}

export function define(command: Command, cli: Cli): void {
  addStorageOption(command)
    .argument("<image>")
    .option("--name <name>", "name of the container")
    .addHelpText(
      "after",
      '\nPrints the container\'s ID and nothing else.\n\nExample:\n  id=$(lamella create app)\n  cd "$(lamella mount "$id")"',
    )
    .action(async (image: string, { name, storageOpt }: Options) => {
      const sizeBytes = sizeOf(storageOpt);
      const engine = await cli.engine(command);
      const id = await engine.create({ image, name, sizeBytes });
      if (cli.globals(command).json) cli.printJson({ id });
      else cli.print(id);
    });
}
