/** `build --output type=T,dest=P`: what is written beside the image in the store. */
import type { Engine } from "../engine/engine.ts";
import { usageError } from "./usage-error.ts";

const types = ["oci", "docker", "tar", "local"] as const;

export interface BuildOutput {
  readonly type: (typeof types)[number];
  readonly dest: string;
}

/** Parses `type=oci,dest=app.tar`; a path alone is `type=local`. Errors: USAGE. */
export function parseOutput(text: string): BuildOutput {
  if (!text.includes("=")) return { type: "local", dest: text };
  const fields = new Map(text.split(",").map((field) => field.split(/=(.*)/s, 2) as [string, string]));
  const type = types.find((known) => known === fields.get("type"));
  const dest = fields.get("dest");
  if (type === undefined) throw usageError(`--output ${text}: the type is one of ${types.join(", ")}`);
  if (dest === undefined || dest === "" || dest === "-") {
    throw usageError(`--output ${text} says no dest`, `write --output type=${type},dest=PATH`);
  }
  return { type, dest };
}

export async function writeOutput(
  engine: Engine,
  image: string,
  { type, dest }: BuildOutput,
  signal: AbortSignal,
): Promise<void> {
  switch (type) {
    case "oci":
      return engine.save({ images: [image], output: dest, format: "oci-archive", signal });
    case "docker":
      return engine.save({ images: [image], output: dest, format: "docker-archive", signal });
    case "tar":
      return engine.exportTree(image, { tar: dest }, { signal });
    case "local":
      return engine.exportTree(image, { directory: dest }, { signal });
    default:
      return type satisfies never;
  }
}
