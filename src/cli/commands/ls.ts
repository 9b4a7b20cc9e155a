import type { Command } from "commander";
import type { FileEntry } from "../../engine/look-into.ts";
import { textTable } from "../../lib/text-table.ts";
import type { Cli } from "../cli.ts";
import { modeString } from "../mode-string.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image>", "image or container")
    .argument("[path]", "directory or file in it", "/")
    .option("-l, --long", "with mode, owner, size and time")
    .option("-R, --recursive", "all below the directory too")
    .addHelpText("after", "\nExample:\n  lamella ls -l app /etc")
    .action(async (image: string, path: string, options: { long?: boolean; recursive?: boolean }) => {
      const engine = await cli.engine(command);
      const { json } = cli.globals(command);
      const nameOf = (entry: FileEntry): string =>
        options.recursive ? entry.path : entry.path.slice(entry.path.lastIndexOf("/") + 1);
      const entries: FileEntry[] = [];
      for await (const entry of engine.ls(image, path, { recursive: options.recursive, signal: cli.signal })) {
        if (json || options.long) entries.push(entry);
        else cli.print(nameOf(entry));
      }
      if (json) return cli.printJson(entries);
      if (options.long)
        cli.write(
          textTable(
            entries.map((entry) => long(entry, nameOf(entry))),
            { right: [1, 2, 3, 4], gap: 1 },
          ),
        );
    });
}

function long(entry: FileEntry, name: string): string[] {
  const time = new Date(entry.mtimeSec * 1000).toISOString().slice(0, 16).replace("T", " ");
  return [
    modeString(entry.type, entry.mode),
    String(entry.nlink),
    String(entry.uid),
    String(entry.gid),
    entry.device ?? String(entry.sizeBytes),
    time,
    entry.linkTarget === undefined ? name : `${name} -> ${entry.linkTarget}`,
  ];
}
