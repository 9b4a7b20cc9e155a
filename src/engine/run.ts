/** Runs a command in a container, as `docker run` does: what the image's config says, changed by the options. */

import type { ContainerOutput, ContainerSpec } from "../build/runtime/container-spec.ts";
import type { LayerView } from "../drivers/driver.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import type { RunConfig } from "../oci/config.ts";

export interface RunOptions {
  readonly image: string;
  /** Replaces the image's CMD. */
  readonly command?: readonly string[] | undefined;
  /** Replaces the image's ENTRYPOINT (and drops its CMD); empty: none. */
  readonly entrypoint?: readonly string[] | undefined;
  /** `NAME=value`, over the image's. */
  readonly env?: readonly string[] | undefined;
  readonly workdir?: string | undefined;
  readonly user?: string | undefined;
  /** Default host. */
  readonly network?: "host" | "none" | undefined;
  readonly hostname?: string | undefined;
  /** Name of the container. */
  readonly name?: string | undefined;
  /** Limit of the writable layer, on drivers with quota; 0: none. */
  readonly sizeBytes?: number | undefined;
  /** Remove the container afterwards. */
  readonly remove?: boolean | undefined;
  /** The root file system cannot be written to. */
  readonly readOnly?: boolean | undefined;
  /** Use this process's standard input, output and error instead of `onOutput`. */
  readonly inheritStdio?: boolean | undefined;
  /** With `inheritStdio`: give the container a terminal. */
  readonly tty?: boolean | undefined;
  /** Where crun and runc are looked for. */
  readonly searchPath: readonly string[];
  /** Default: crun if it is installed, else runc, else the built-in sandbox. */
  readonly runtime?: "crun" | "runc" | "builtin" | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onOutput?: ((output: ContainerOutput) => void) | undefined;
}

export interface RunResult {
  readonly containerId: string;
  /** The command's, or 128 and the signal that ended it. */
  readonly exitCode: number;
}

/** What the container is to be. Errors: invalid_argument when there is nothing to run. */
export function containerSpec(options: RunOptions, image: RunConfig, root: LayerView, id: string): ContainerSpec {
  const { entrypoint = image.Entrypoint ?? [], command = [] } = options;
  const imageCommand = options.entrypoint === undefined ? (image.Cmd ?? []) : [];
  const args = [...entrypoint, ...(command.length > 0 ? command : imageCommand)];
  if (args.length === 0) {
    throw new LamellaError("invalid_argument", "NO_COMMAND", `${options.image} names no command to run`, {
      hint: "give one after the image's name",
    });
  }
  return {
    root,
    args,
    env: mergeEnvironment(image.Env ?? [], options.env ?? []),
    cwd: options.workdir ?? (image.WorkingDir || "/"),
    user: options.user ?? image.User,
    network: options.network ?? "host",
    hostname: options.hostname ?? id.slice(0, 12),
    readOnly: options.readOnly,
    tty: options.tty,
    stdio: options.inheritStdio ? "inherit" : "pipe",
  };
}

/** The pairs of both; a name that both have keeps its place and takes the latter value. */
function mergeEnvironment(first: readonly string[], second: readonly string[]): string[] {
  const values = new Map<string, string>();
  for (const pair of [...first, ...second]) values.set(pair.split("=", 1)[0] ?? "", pair);
  return [...values.values()];
}
