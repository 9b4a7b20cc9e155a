import type { Command } from "commander";
import { humanAge } from "../../lib/human-duration.ts";
import { humanSize } from "../../lib/human-size.ts";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";
import { shortId, splitTag } from "../names.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("[name]", "list only images of that name")
    .option("--no-trunc", "print IDs in full")
    .addHelpText("after", "\nExample:\n  lamella images\n  lamella images -q | xargs lamella rmi")
    .action(async (name: string | undefined, options: { trunc: boolean }) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const images = (await engine.images()).flatMap((image) => {
        const tags = image.tags.filter((tag) => name === undefined || tag === name || splitTag(tag)[0] === name);
        return name === undefined || tags.length > 0 ? [{ ...image, tags }] : [];
      });
      if (json) return cli.printJson(images);
      const idOf = (id: string): string => (options.trunc ? shortId(id) : id);
      if (quiet) {
        for (const { id } of images) cli.print(idOf(id));
        return;
      }
      const rows = images.flatMap(({ id, tags, createdAt, sizeBytes }) =>
        (tags.length > 0 ? tags.map(splitTag) : [["<none>", "<none>"] as const]).map(([repository, tag]) => [
          repository,
          tag,
          idOf(id),
          `${humanAge(Date.now() - Date.parse(createdAt))} ago`,
          humanSize(sizeBytes),
        ]),
      );
      cli.write(textTable([["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], ...rows]));
    });
}
