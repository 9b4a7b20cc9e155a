/** File systems for tests: made in a file or in memory, mounted in this process's private mount namespace. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { umount } from "../../src/fs/mounts.ts";
import { inUserNamespace, privateMounts } from "./overlay-lab.ts";

/** `host`: whatever the temporary directory lies on. `overlay`: the kernel's, over that. */
export type FileSystemType = "host" | "overlay" | "tmpfs" | "ext4" | "xfs" | "btrfs";

export interface Place {
  /** An empty directory of the file system. */
  readonly directory: string;
  /** Why there is none here. */
  readonly skip: string | undefined;
}

export interface PlaceOptions {
  /** Size of the image; as `truncate` takes it. Default: 512M. It is sparse. */
  readonly size?: string;
  /** Further arguments of mkfs. */
  readonly mkfs?: readonly string[];
  /** Mount options besides `loop`. */
  readonly mount?: string;
}

let base: string | undefined;
const mounted: string[] = [];

function baseDirectory(): string {
  if (base !== undefined) return base;
  const made = mkdtempSync(join(tmpdir(), "lamella-place-"));
  after(() => {
    for (const directory of mounted.splice(0).reverse()) umount(directory);
    rmSync(made, { recursive: true });
  });
  base = made;
  return made;
}

/** Makes a file system; it is unmounted and its loop device gone when the tests of this process are over. */
export function placeOf(type: FileSystemType, options: PlaceOptions = {}): Place {
  const mounts = privateMounts();
  const directory = mkdtempSync(join(baseDirectory(), `${type}-`));
  if (mounts !== true) return { directory, skip: mounts };
  if (type === "host") return { directory, skip: undefined };
  try {
    if (type === "tmpfs") execFileSync("mount", ["-t", "tmpfs", "tmpfs", directory], { stdio: "pipe" });
    else if (type === "overlay") {
      const own = ["lower", "upper", "work"].map((name) => `${directory}.layers/${name}`);
      for (const path of own) mkdirSync(path, { recursive: true });
      const [lower, upper, work] = own;
      const attributes = inUserNamespace() ? "userxattr," : "";
      const layers = `${attributes}lowerdir=${lower},upperdir=${upper},workdir=${work}`;
      execFileSync("mount", ["-t", "overlay", "overlay", "-o", layers, directory], { stdio: "pipe" });
    } else {
      const image = `${directory}.img`;
      execFileSync("truncate", ["-s", options.size ?? "512M", image]);
      execFileSync(`mkfs.${type}`, ["-q", ...(options.mkfs ?? []), image], { stdio: "pipe" });
      const mountOptions = options.mount === undefined ? "loop" : `loop,${options.mount}`;
      execFileSync("mount", ["-o", mountOptions, image, directory], { stdio: "pipe" });
    }
    mounted.push(directory);
    return { directory, skip: undefined };
  } catch (error) {
    return { directory, skip: `no ${type}: ${String(error).split("\n")[0]}` };
  }
}

/** Makes an empty directory there. */
export function directoryIn(place: Place, name = "home"): string {
  mkdirSync(place.directory, { recursive: true });
  return mkdtempSync(join(place.directory, `${name}-`));
}
