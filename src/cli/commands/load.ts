import { statSync } from "node:fs";
import type { Command } from "commander";
import { ByteProgress } from "../byte-progress.ts";
import type { Cli } from "../cli.ts";
import { standardInput } from "../standard-streams.ts";

export function define(command: Command, cli: Cli): void {
  command
    .option("-i, --input <path>", "archive or OCI layout directory (default: an archive on standard input)")
    .option("--platform <os/arch>", "which image of a multi-platform index (default: this host's)")
    .option("-t, --tag <name>", "name[:tag] to use in place of the archive's; for an archive of one image")
    .addHelpText("after", "\nExample:\n  lamella load -i app.tar\n  docker save app | lamella load")
    .action(async (options: { input?: string; platform?: string; tag?: string }) => {
      const input = options.input ?? standardInput();
      const engine = await cli.engine(command);
      const { json, quiet, root } = cli.globals(command);
      const size = options.input === undefined ? undefined : statSync(options.input, { throwIfNoEntry: false })?.size;
      cli.writing = { path: root, neededBytes: size };
      using progress = new ByteProgress(quiet || json);
      const images = await engine.load({
        input,
        platform: options.platform,
        tags: options.tag === undefined ? undefined : [options.tag],
        signal: cli.signal,
        onProgress: ({ diffId, event, bytes, totalBytes }) => {
          const label = diffId.slice(7, 19);
          if (event === "done") progress.finish(label, "loaded");
          else if (event === "exists") progress.finish(label, "exists already");
          else progress.update(label, bytes, totalBytes);
        },
      });
      if (json) return cli.printJson(images);
      for (const { id, tags } of images) {
        if (quiet) cli.print(id);
        else if (tags.length === 0) cli.print(`Loaded image ID: ${id}`);
        else for (const tag of tags) cli.print(`Loaded image: ${tag}`);
      }
    });
}
