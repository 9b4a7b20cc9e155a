import type { Command } from "commander";
import { ByteProgress } from "../byte-progress.ts";
import type { Cli } from "../cli.ts";
import { standardInput } from "../standard-streams.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<source>", "root directory, tar of one (plain, gzip, zstd), or - for a tar on standard input")
    .argument("[name]", "name[:tag] of the image")
    .option("-m, --message <text>", "comment of the image's history")
    .option("--platform <os/arch>", "platform of the image (default: this host's)")
    .addHelpText(
      "after",
      "\nExample:\n  lamella import /srv/debian debian:12\n  zcat root.tar.gz | lamella import - root",
    )
    .action(async (source: string, name: string | undefined, options: { message?: string; platform?: string }) => {
      const input = source === "-" ? standardInput() : source;
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      using progress = new ByteProgress(quiet || json);
      const image = await engine.import({
        source: input,
        name,
        comment: options.message ?? "Imported from -",
        platform: options.platform,
        createdAt: cli.createdAt(),
        signal: cli.signal,
        onProgress: (bytes) => progress.update(source, bytes),
      });
      progress.finish(source, "imported");
      if (json) cli.printJson(image);
      else cli.print(image.id);
    });
}
