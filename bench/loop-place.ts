/**
 * File systems in files, mounted in a mount namespace of the benchmark's own: what it starts sees them, nobody else does,
 * and they end with it.
 */
import { join } from "node:path";
import { CLONE_NEWNS, MS_PRIVATE, MS_REC } from "../src/sys/constants.ts";
import * as raw from "../src/sys/raw.ts";
import { zfsPlace } from "../test/support/zfs-lab.ts";
import { installed, output } from "./measure.ts";
import { type Context, Unavailable } from "./row.ts";

let entered = false;

/** Puts this process (its main thread, and whatever it starts) into a mount namespace of its own, once. */
export function enterOwnMounts(): void {
  if (entered) return;
  if (raw.unshare(CLONE_NEWNS) < 0) throw new Unavailable("mount namespaces need root");
  raw.mount("none", "/", "", MS_REC | MS_PRIVATE, "");
  entered = true;
}

export interface LoopPlace extends Disposable {
  /** Where it is mounted. */
  readonly directory: string;
}

/** Makes a file system of that type in a sparse file of this run's. */
export function loopPlace({ places }: Context, type: "btrfs" | "xfs" | "ext4", size = "24G"): LoopPlace {
  if (!installed(`mkfs.${type}`)) throw new Unavailable(`mkfs.${type} is not installed`);
  enterOwnMounts();
  const at = places.fresh(`loop-${type}`);
  const image = join(at, "image");
  const directory = join(at, "mounted");
  output(["mkdir", directory]);
  output(["truncate", "-s", size, image]);
  output([`mkfs.${type}`, "-q", image]);
  output(["mount", "-o", "loop", image, directory]);
  return { directory, [Symbol.dispose]: () => void output(["umount", directory]) };
}

/** A ZFS pool in a file, with a daemon of its own where the kernel has no ZFS. */
export function poolPlace(size = "12G"): LoopPlace {
  enterOwnMounts();
  const ends: (() => void)[] = [];
  const place = zfsPlace({ size, atEnd: (end) => void ends.push(end) });
  const over = (): void => {
    for (const end of ends.splice(0)) end();
  };
  if (place.skip === undefined) return { directory: place.directory, [Symbol.dispose]: over };
  over();
  throw new Unavailable(place.skip);
}
