import type { Command } from "commander";
import { humanAge } from "../../lib/human-duration.ts";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";
import { shortId } from "../names.ts";

export function define(command: Command, cli: Cli): void {
  command
    .option("--no-trunc", "print IDs in full")
    .addHelpText("after", "\nExample:\n  lamella ps")
    .action(async ({ trunc }: { trunc: boolean }) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const containers = await engine.containers();
      if (json) return cli.printJson(containers);
      const tags = new Map((await engine.images()).map(({ id, tags }) => [id, tags[0]]));
      const idOf = (id: string): string => (trunc ? shortId(id) : id);
      if (quiet) {
        for (const { id } of containers) cli.print(idOf(id));
        return;
      }
      const rows = containers.map(({ id, image, createdAt, name }) => [
        idOf(id),
        tags.get(image) ?? shortId(image),
        `${humanAge(Date.now() - Date.parse(createdAt))} ago`,
        name ?? "",
      ]);
      cli.write(textTable([["CONTAINER ID", "IMAGE", "CREATED", "NAMES"], ...rows]));
    });
}
