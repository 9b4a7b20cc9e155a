import { type Command, Option } from "commander";
import type { Engine } from "../../engine/engine.ts";
import type { SaveOptions } from "../../engine/options.ts";
import { ByteProgress } from "../byte-progress.ts";
import type { Cli } from "../cli.ts";
import { standardOutput } from "../standard-streams.ts";
import { usageError } from "../usage-error.ts";

const formats = { "docker-archive": "docker-archive", "oci-archive": "oci-archive", oci: "oci-layout" } as const;

interface Options {
  readonly output?: string;
  readonly format: keyof typeof formats;
  readonly compression?: "none" | "gzip" | "zstd";
}

export function define(command: Command, cli: Cli): void {
  command
    .argument("<image...>", "images to write")
    .option("-o, --output <path>", "file, or directory with --format oci (default: standard output)")
    .addOption(new Option("--format <format>", "what to write").choices(Object.keys(formats)).default("docker-archive"))
    .addOption(
      new Option("--compression <kind>", "of layers in the OCI formats (default: gzip)").choices([
        "none",
        "gzip",
        "zstd",
      ]),
    )
    .addHelpText(
      "after",
      "\nExample:\n  lamella save -o app.tar app:1.0\n  lamella save --format oci-archive -o app.oci.tar app",
    )
    .action(async (images: string[], { output, format, compression }: Options) => {
      if (output === undefined && format === "oci") {
        throw usageError("an OCI layout is a directory", "name one with -o, or use --format oci-archive");
      }
      const sink: SaveOptions["output"] = output ?? standardOutput();
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      if (output !== undefined) cli.writing = { path: output, neededBytes: await sizeOf(engine, images, format) };
      using progress = new ByteProgress(quiet || json || output === undefined);
      await engine.save({
        images,
        output: sink,
        format: formats[format],
        compression,
        signal: cli.signal,
        onProgress: ({ diffId, bytes, totalBytes }) => {
          const label = diffId.slice(7, 19);
          progress.update(label, bytes, totalBytes);
          if (bytes >= totalBytes) progress.finish(label, "written");
        },
      });
      if (json && output !== undefined) cli.printJson({ images, output, format });
    });
}

/** What a docker archive takes at least; how far layers compress is not known before. */
async function sizeOf(
  engine: Engine,
  names: readonly string[],
  format: Options["format"],
): Promise<number | undefined> {
  if (format !== "docker-archive") return undefined;
  const sizes = new Map<string, number>();
  for (const name of names) {
    const { id, sizeBytes } = await engine.image(name);
    sizes.set(id, sizeBytes);
  }
  return Math.max(...sizes.values());
}
