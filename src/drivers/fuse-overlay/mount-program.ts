/**
 * The program that mounts the layers, a process for each mount, which ends with it: fuse-overlayfs where it is installed, else
 * our own (../../cli/lamella-overlay.ts), which takes the same arguments. It is started in the home, so that layers have names
 * without the characters its options give a meaning to; the mount point alone is absolute, since the process goes to `/` when
 * it is ready. The program returns then, and the process stays behind.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { LamellaError } from "../../errors/lamella-error.ts";
import { findProgram, isProgram, systemFolders } from "../../fs/find-program.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";

/** It loads the directories of the roots before it is ready; this long means that it hangs. */
const TIMEOUT_MS = 60_000;
/** Our own program, in place of a path. */
const OWN = "lamella-overlay";

/** Layers to mount, by paths relative to the home. */
export interface FuseLayers {
  /** The uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly upper: ByteString | undefined;
  readonly work: ByteString | undefined;
  /** Programs that ask for it to be synced to disk are told that it was. */
  readonly volatile: boolean;
}

export interface MountProgram {
  /** What people are told: its path. */
  readonly path: string;
  /** The words that start it. */
  readonly command: readonly string[];
  /** Further options it takes, as `name` or `name=value`. */
  readonly options: readonly string[];
  /** The command is the process that stays, which says `0` on descriptor 3 when it has mounted. */
  readonly stays: boolean;
}

/** The program to use: the one given, the one that is installed, or ours. Errors: failed_precondition. */
export function chooseMountProgram(
  given: string | undefined,
  { userNamespace }: { userNamespace: boolean },
): MountProgram {
  const path = given === OWN ? undefined : (given ?? findProgram("fuse-overlayfs"));
  if (path === undefined) return ownProgram(userNamespace);
  if (path.startsWith("/") && isProgram(path)) return { path, command: [path], options: [], stays: false };
  throw new LamellaError("failed_precondition", "NO_MOUNT_PROGRAM", `${given} is no program`, {
    hint: `name a program by its absolute path, or say ${OWN} for Lamella's own`,
  });
}

/** The words that start our own program, from wherever. */
export function ownCommand(): readonly [string, ...string[]] {
  const at = (place: string): string => fileURLToPath(new URL(place, import.meta.url));
  const isCompiled = import.meta.url.endsWith(".js");
  const compiled = at(isCompiled ? "../../../cli/lamella-overlay.js" : "../../../dist/cli/lamella-overlay.js");
  // Run from the sources, all the same the one that starts quickly, if `npm run build` has made it.
  const path = isCompiled || existsSync(compiled) ? compiled : at("../../cli/lamella-overlay.ts");
  // It is started elsewhere than this process was.
  const nodeOptions =
    path === compiled ? [] : process.execArgv.map((word) => (word.startsWith("./") ? resolve(word) : word));
  return [process.execPath, ...nodeOptions, path];
}

/** Neither redirects nor metacopy, which fuse-overlayfs would not understand in the same home. */
function ownProgram(userNamespace: boolean): MountProgram {
  const command = ownCommand();
  return {
    path: command.at(-1) ?? "",
    command: [...command, "-f", "--tells"],
    stays: true,
    options: ["redirect_dir=off", "metacopy=off", "marks=any", ...(userNamespace ? ["userxattr"] : [])],
  };
}

/** The options for the program. */
function optionsOf({ lowers, upper, work, volatile }: FuseLayers, further: readonly string[]): string {
  // fast_ino: without it, fuse-overlayfs opens a name in every layer below to find out its inode number.
  const options = [`lowerdir=${lowers.join(":")}`, "fast_ino=1", ...further];
  if (upper === undefined) options.push("ro");
  else options.push(`upperdir=${upper}`, `workdir=${work}`);
  if (volatile) options.push("volatile");
  return options.join(",");
}

/** Starts the process that stays and waits for what it says: without Node.js in between, which takes a tenth of a second. */
const stayBehind = ["sh", "-c", `[ "$({ setsid "$@" 3>&1 </dev/null >/dev/null & } | head -c 1)" = 0 ]`, "sh"];

/** Mounts layers at `target` (absolute) and returns when they can be used. Errors: failed_precondition with what it says. */
export function runMountProgram(
  { path, command, options, stays }: MountProgram,
  home: ByteString,
  layers: FuseLayers,
  target: ByteString,
): void {
  const [file = "", ...words] = stays ? [...stayBehind, ...command] : command;
  const args = [...words, "-o", optionsOf(layers, options), textOfBytes(target)];
  const { status, signal, error, stderr } = spawnSync(file, args, {
    cwd: textOfBytes(home),
    env: { PATH: systemFolders.join(":") },
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  if (status === 0) return;
  const said = stderr
    ?.trim()
    .split("\n")
    .filter((line) => !line.startsWith("unknown argument ignored"));
  const why = error?.message ?? (said?.join("; ") || (signal ?? `exit status ${status}`));
  throw new LamellaError(
    "failed_precondition",
    "FUSE_MOUNT",
    `${path} could not mount ${textOfBytes(target)}: ${why}`,
    {
      hint: "`lamella info --why` shows what this driver needs",
    },
  );
}
