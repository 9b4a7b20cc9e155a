import type { Command } from "commander";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";

interface Options {
  readonly all?: boolean;
  readonly untagged?: boolean;
}

export function define(command: Command, cli: Cli): void {
  command
    .option("-a, --all", "drop the whole build cache, not only what was unused for 7 days")
    .option("--untagged", "also remove images that have no tag and no container")
    .addHelpText("after", "\nExample:\n  lamella gc --all")
    .action(async ({ all = false, untagged = false }: Options) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const report = await engine.gc({ cacheMaxAgeMs: all ? 0 : undefined, untaggedImages: untagged });
      if (json) return cli.printJson(report);
      if (quiet) return;
      const rows: [string, number][] = [
        ["Images", report.images],
        ["Layers", report.layers],
        ["Blobs", report.blobs],
        ["Cache rows", report.cacheRows],
        ["Left by crashes", report.orphans],
      ];
      cli.write(
        textTable([["REMOVED", "COUNT"], ...rows.map(([what, count]) => [what, String(count)])], { right: [1] }),
      );
    });
}
