/**
 * The program that mounts the layers: fuse-overlayfs, a process for each mount, which ends with it. It is started in the
 * home, so that layers have names without the characters its options give a meaning to; the mount point alone is absolute,
 * since the process goes to `/` when it is ready. The program returns then, and the process stays behind.
 */
import { spawnSync } from "node:child_process";
import { LamellaError } from "../../errors/lamella-error.ts";
import { findProgram, isProgram, systemFolders } from "../../fs/find-program.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";

/** It loads the directories of the roots before it is ready; this long means that it hangs. */
const TIMEOUT_MS = 60_000;

/** Layers to mount, by paths relative to the home. */
export interface FuseLayers {
  /** The uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly upper: ByteString | undefined;
  readonly work: ByteString | undefined;
  /** Programs that ask for it to be synced to disk are told that it was. */
  readonly volatile: boolean;
}

/** The program to use: the one given, or the one that is there. Errors: failed_precondition. */
export function chooseMountProgram(given: string | undefined): string {
  const path = given ?? findProgram("fuse-overlayfs");
  if (path?.startsWith("/") && isProgram(path)) return path;
  const what = given === undefined ? "there is no program fuse-overlayfs" : `${given} is no program`;
  throw new LamellaError("failed_precondition", "NO_MOUNT_PROGRAM", what, {
    hint: "install the package fuse-overlayfs, or name the program: --driver-opt fuse_overlay.mount_program=/absolute/path",
  });
}

/** The arguments for the program, without the mount point. */
export function mountArguments({ lowers, upper, work, volatile }: FuseLayers): string[] {
  // fast_ino: without it, a name is opened in every layer below to find out its inode number.
  const options = [`lowerdir=${lowers.join(":")}`, "fast_ino=1"];
  if (upper === undefined) options.push("ro");
  else options.push(`upperdir=${upper}`, `workdir=${work}`);
  if (volatile) options.push("volatile");
  return ["-o", options.join(",")];
}

/** Mounts layers at `target` (absolute) and returns when they can be used. Errors: failed_precondition with what it says. */
export function runMountProgram(program: string, home: ByteString, layers: FuseLayers, target: ByteString): void {
  const { status, signal, error, stderr } = spawnSync(program, [...mountArguments(layers), textOfBytes(target)], {
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
    `${program} could not mount ${textOfBytes(target)}: ${why}`,
    {
      hint: "`lamella info --why` shows what this driver needs",
    },
  );
}
