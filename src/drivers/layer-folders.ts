/**
 * Layers that are folders of the home, each named after its layer and beginning and ending under another name:
 *
 *     <home>/<id>/                      a layer
 *     <home>/.<id>-creating-<hex>/      an unfinished creation
 *     <home>/.<id>-removing-<hex>/      an unfinished removal
 *     <home>/.lamella/lock              held shared while a layer is made, exclusively while `reclaim` looks around
 */
import { randomBytes } from "node:crypto";
import { lockFile } from "../fs/locks.ts";
import { removeTree } from "../fs/remove-tree.ts";
import { removeTreeInBackground } from "../fs/tree-jobs.ts";
import type { ByteString } from "../lib/bytes.ts";
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from "../sys/constants.ts";
import * as sys from "../sys/syscalls.ts";
import type { LayerId } from "./driver.ts";
import { isLayerId } from "./layer-id.ts";
import { staleTrials } from "./trial-directory.ts";

/** What a removal deletes at once before it hands the rest to a worker thread. */
const INLINE_ENTRIES = 500;

/** Names in a directory. */
export function namesIn(path: ByteString): string[] {
  using directory = sys.open(path, O_RDONLY | O_DIRECTORY);
  return sys.readdir(directory.fd).map((entry) => entry.name);
}

/** Deletes a tree that nobody uses; a large one in a worker thread. */
export async function deleteTree(path: ByteString): Promise<void> {
  if (!removeTree(path, { maxEntries: INLINE_ENTRIES })) await removeTreeInBackground(path);
}

export class LayerFolders {
  readonly home: ByteString;

  constructor(home: ByteString) {
    this.home = home;
  }

  layer(id: string): ByteString {
    return `${this.home}/${id}`;
  }

  state(name: string): ByteString {
    return `${this.home}/.lamella/${name}`;
  }

  exists(id: string): boolean {
    return isLayerId(id) && sys.statIfExists(AT_FDCWD, this.layer(id)) !== undefined;
  }

  /** All layers, sorted. */
  list(): LayerId[] {
    return namesIn(this.home).filter(isLayerId).sort();
  }

  /** A new name for a layer in the making, or on its way out. */
  aside(id: string, what: "creating" | "removing"): ByteString {
    return `${this.home}/.${id}-${what}-${randomBytes(4).toString("hex")}`;
  }

  lock(mode: "shared" | "exclusive"): Disposable {
    return lockFile(this.state("lock"), mode);
  }

  /** What crashed creations, removals and trials left. The lock is held exclusively. */
  asides(): ByteString[] {
    const asides = staleTrials(this.home);
    for (const name of namesIn(this.home))
      if (/^\.[0-9a-f]{64}-(creating|removing)-[0-9a-f]+$/.test(name)) asides.push(`${this.home}/${name}`);
    return asides;
  }
}
