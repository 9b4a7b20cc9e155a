/**
 * What is known of a tree that began as a faithful copy of its parent's, by the manifest of that copy (./tree-manifest-read.ts):
 * an object that has the inode number, type and change time that the manifest has at its path is as it was copied.
 *
 * A path is the manifest's only as long as all directories on the way are the ones it knew there. The walk keeps track: a
 * directory is CALM when it has not changed, KNOWN when it is the manifest's but has; below one that was put in its place
 * nothing is known. The copy has the parent's hard links, so the inode numbers of the manifest tell the parent's inodes
 * apart, too.
 */
import { BOTH, CALM, KNOWN, type Marker, type SharedDirectory } from "../fs/walk-share.ts";
import type { ByteString } from "../lib/bytes.ts";
import { inodeKey, type Stat } from "../sys/syscalls.ts";
import { TreeManifest } from "./tree-manifest-read.ts";
import { type Device, isOn } from "./trees-device.ts";
import type { Known } from "./trees-known.ts";

export interface KnownOfManifest {
  readonly kind: "manifest";
  /** The manifest's bytes. */
  readonly memory: SharedArrayBuffer;
  /** The device of the tree's root. Of what is mounted elsewhere in the tree nothing is known. */
  readonly tree: Device;
}

export class ManifestKnown implements Known {
  readonly #manifest: TreeManifest;
  readonly #tree: Device;
  #known = false;

  constructor({ memory, tree }: KnownOfManifest) {
    this.#manifest = new TreeManifest(memory);
    this.#tree = tree;
  }

  root(a: Stat): Marker {
    if (this.#manifest.hasRoot(a)) return CALM;
    return this.#manifest.hasRootInode(a) ? KNOWN : BOTH;
  }

  enter({ marker, path }: SharedDirectory): void {
    this.#known = marker !== BOTH;
    this.#manifest.enter(path);
  }

  sameEntry(): boolean {
    return false;
  }

  same(name: ByteString, a: Stat): boolean {
    return this.#known && isOn(a, this.#tree) && this.#manifest.has(name, a);
  }

  marker(name: ByteString, a: Stat): Marker {
    if (!this.#known || !isOn(a, this.#tree)) return BOTH;
    if (this.#manifest.has(name, a)) return CALM;
    return this.#manifest.hasInode(name, a) ? KNOWN : BOTH;
  }

  parentInode(name: ByteString, _a: Stat, b: Stat | undefined): string {
    return this.#manifest.inode(name) ?? (b === undefined ? "" : inodeKey(b));
  }
}
