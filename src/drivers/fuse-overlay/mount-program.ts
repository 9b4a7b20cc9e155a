/**
 * Another program that mounts the layers, a process for each mount, which ends with it: fuse-overlayfs, or one that takes the
 * same arguments. It is started in the home, so that layers have names without the characters its options give a meaning to;
 * the mount point alone is absolute, since the process goes to `/` when it is ready. The program returns then, and the
 * process stays behind.
 */
import { spawnSync } from "node:child_process";
import { LamellaError } from "../../errors/lamella-error.ts";
import { isProgram, systemFolders } from "../../fs/find-program.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { couldNotMount, type FuseLayers, type LayerMounter, optionsOf, TIMEOUT_MS } from "./layer-mounter.ts";

export class MountProgram implements LayerMounter {
  readonly path: string;
  readonly redirects = false;
  readonly #home: ByteString;

  /** Errors: failed_precondition when `path` is no program. */
  constructor(path: string, home: ByteString) {
    if (!path.startsWith("/") || !isProgram(path))
      throw new LamellaError("failed_precondition", "NO_MOUNT_PROGRAM", `${path} is no program`, {
        hint: "name a program by its absolute path, or leave fuse_overlay.mount_program out for Lamella's own",
      });
    this.path = path;
    this.#home = home;
  }

  mount(layers: FuseLayers, target: ByteString): void {
    // fast_ino: without it, fuse-overlayfs opens a name in every layer below to find out its inode number.
    const args = ["-o", optionsOf(layers, ["fast_ino=1"]), textOfBytes(target)];
    const { status, signal, error, stderr } = spawnSync(this.path, args, {
      cwd: textOfBytes(this.#home),
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
    throw couldNotMount(this.path, target, why);
  }

  async rest(): Promise<void> {
    // Each process ends with its mount.
  }
}
