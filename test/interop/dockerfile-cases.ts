/**
 * The Dockerfiles of `dockerfiles/`: each folder is a build context of its own. Beside what a Dockerfile says to a builder,
 * comments in it tell the test
 *
 *     # test: --build-arg=A=1 --target=x     options for both builders
 *     # parent: Dockerfile.parent            a Dockerfile to build first, as the image `parent`
 *
 * and `prepare.sh` makes in the copied context what git cannot hold: owners, modes, tars, empty directories.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, lstatSync, lutimesSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { memberTimeSec } from "../support/image-archive.ts";

const folder = join(import.meta.dirname, "dockerfiles");

export interface DockerfileCase {
  readonly name: string;
  readonly buildArgs: Readonly<Record<string, string>>;
  readonly target: string | undefined;
  /** File of the parent's Dockerfile in the context. */
  readonly parent: string | undefined;
}

export function dockerfileCases(): DockerfileCase[] {
  return readdirSync(folder)
    .sort()
    .map((name) => {
      const text = readFileSync(join(folder, name, "Dockerfile"), "utf8");
      const buildArgs: Record<string, string> = {};
      let target: string | undefined;
      for (const word of /^# test: (.*)$/m.exec(text)?.[1]?.split(" ") ?? []) {
        const [, option, value = ""] = /^--([\w-]+)=(.*)$/.exec(word) ?? [];
        const [key = "", ...rest] = value.split("=");
        if (option === "build-arg") buildArgs[key] = rest.join("=");
        else if (option === "target") target = value;
        else throw new Error(`${name}: what is ${word}?`);
      }
      return { name, buildArgs, target, parent: /^# parent: (.*)$/m.exec(text)?.[1] };
    });
}

/**
 * Copies a case's context to `directory` and prepares it; every time in it becomes that of hand-made tar members. Modes are
 * what git keeps (executable or not), so that the umask of a checkout does not matter.
 */
export function prepareContext(name: string, directory: string): void {
  cpSync(join(folder, name), directory, { recursive: true, verbatimSymlinks: true });
  for (const path of walk(directory)) {
    const stat = lstatSync(path);
    if (!stat.isSymbolicLink()) chmodSync(path, stat.isDirectory() || stat.mode & 0o100 ? 0o755 : 0o644);
  }
  const script = join(directory, "prepare.sh");
  if (existsSync(script)) {
    execFileSync("sh", ["-euc", `umask 022; . ${script}`], { cwd: directory, stdio: ["ignore", "ignore", "inherit"] });
    rmSync(script);
  }
  for (const path of walk(directory)) lutimesSync(path, memberTimeSec, memberTimeSec);
}

function* walk(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    yield path;
  }
}
