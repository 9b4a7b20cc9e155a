import type { Command } from "commander";
import { humanSize } from "../../lib/human-size.ts";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText("after", "\nThe total is what `du -s` says of the root.\n\nExample:\n  lamella df --json")
    .action(async () => {
      const engine = await cli.engine(command);
      const usage = await engine.usage();
      if (cli.globals(command).json) return cli.printJson(usage);
      const rows: [string, number][] = [
        ["Layers", usage.layersBytes],
        ["Tar records", usage.recordsBytes],
        ["Blobs", usage.blobsBytes],
        ["Metadata", usage.metadataBytes],
        ["Other", usage.otherBytes],
        ["Total", usage.totalBytes],
      ];
      cli.write(
        textTable([["TYPE", "SIZE"], ...rows.map(([type, bytes]) => [type, humanSize(bytes)])], { right: [1] }),
      );
    });
}
