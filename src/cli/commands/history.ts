import type { Command } from "commander";
import { humanAge } from "../../lib/human-duration.ts";
import { humanSize } from "../../lib/human-size.ts";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";
import { shortId } from "../names.ts";

const longestStep = 45;

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image>")
    .option("--no-trunc", "print IDs and steps in full")
    .addHelpText("after", "\nExample:\n  lamella history --no-trunc app")
    .action(async (image: string, { trunc }: { trunc: boolean }) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const items = await engine.history(image);
      if (json) return cli.printJson(items);
      const idOf = (id: string | undefined): string => (id === undefined ? "<missing>" : trunc ? shortId(id) : id);
      if (quiet) {
        for (const { id } of items) cli.print(idOf(id));
        return;
      }
      const rows = items.map(({ id, createdAt, createdBy, sizeBytes, comment }) => [
        idOf(id),
        createdAt === undefined ? "N/A" : `${humanAge(Date.now() - Date.parse(createdAt))} ago`,
        trunc ? shorten(createdBy) : createdBy,
        humanSize(sizeBytes),
        comment,
      ]);
      cli.write(textTable([["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], ...rows]));
    });
}

function shorten(step: string): string {
  const line = step.replace(/\s+/g, " ");
  return line.length > longestStep ? `${line.slice(0, longestStep - 1)}…` : line;
}
