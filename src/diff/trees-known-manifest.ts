/**
 * What is known of a tree that began as a faithful copy of its parent's, by the manifest of that copy
 * (./tree-manifest-read.ts): an object that has the inode number, type and change time that the manifest has at its path is
 * as it was copied. It does not matter how it got there, or which directories lie on the way: the path is the parent's, too.
 * A directory that has not changed has the names that were copied.
 *
 * The copy has the parent's hard links, so the inode numbers of the manifest tell the parent's inodes apart.
 */
import { BOTH, CALM, type Marker, type SharedDirectory } from "../fs/walk-share.ts";
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

  constructor({ memory, tree }: KnownOfManifest) {
    this.#manifest = new TreeManifest(memory);
    this.#tree = tree;
  }

  root(a: Stat): Marker {
    return this.#manifest.hasRoot(a) ? CALM : BOTH;
  }

  enter({ path }: SharedDirectory): void {
    this.#manifest.enter(path);
  }

  sameEntry(): boolean {
    return false;
  }

  same(name: ByteString, a: Stat): boolean {
    return isOn(a, this.#tree) && this.#manifest.has(name, a);
  }

  marker(name: ByteString, a: Stat): Marker {
    return this.same(name, a) ? CALM : BOTH;
  }

  parentInode(name: ByteString, _a: Stat, b: Stat | undefined): string {
    return this.#manifest.inode(name) ?? (b === undefined ? "" : inodeKey(b));
  }
}
