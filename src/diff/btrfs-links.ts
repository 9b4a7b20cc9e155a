/** All names of an inode, as btrfs keeps them beside the inode itself: how hard links are found without a walk. */
import type { ByteString } from "../lib/bytes.ts";
import { BTRFS_FIRST_FREE_OBJECTID } from "../sys/btrfs.ts";
import { BTRFS_INODE_EXTREF_KEY, BTRFS_INODE_REF_KEY, treeItems } from "../sys/btrfs-search.ts";

interface Reference {
  readonly directory: number;
  readonly name: ByteString;
}

/** Names of inodes of one subvolume. It must not change meanwhile. */
export class InodeNames {
  readonly #fd: number;
  readonly #directories = new Map<number, ByteString>([[BTRFS_FIRST_FREE_OBJECTID, ""]]);

  /** `fd`: something open in the subvolume. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Paths, relative to the subvolume's root, of all names of an inode. */
  *of(inode: number): Generator<ByteString> {
    for (const { directory, name } of this.#references(inode)) {
      const path = this.#directory(directory);
      yield path === "" ? name : `${path}/${name}`;
    }
  }

  #directory(inode: number): ByteString {
    const way: Reference[] = [];
    let at = inode;
    let path = this.#directories.get(at);
    while (path === undefined) {
      const [reference] = this.#references(at);
      // What is not below the root any more is open only, and has no path.
      if (reference === undefined) return "";
      way.push({ directory: at, name: reference.name });
      at = reference.directory;
      path = this.#directories.get(at);
    }
    for (const { directory, name } of way.reverse()) {
      path = path === "" ? name : `${path}/${name}`;
      this.#directories.set(directory, path);
    }
    return path;
  }

  /**
   * Items of an inode's names. INODE_REF has the directory for its offset: { u64 index | u16 length | name }…;
   * INODE_EXTREF: { u64 directory | u64 index | u16 length | name }…
   */
  #references(inode: number): Reference[] {
    const found: Reference[] = [];
    const types = [BTRFS_INODE_REF_KEY, BTRFS_INODE_EXTREF_KEY] as const;
    for (const { type, offset, data } of treeItems(this.#fd, { tree: 0, objectIds: [inode, inode], types })) {
      const extended = type === BTRFS_INODE_EXTREF_KEY;
      const start = extended ? 18 : 10;
      for (let at = 0; at + start <= data.length; ) {
        const end = at + start + data.readUInt16LE(at + start - 2);
        const directory = extended ? Number(data.readBigUInt64LE(at)) : offset;
        found.push({ directory, name: data.toString("latin1", at + start, end) });
        at = end;
      }
    }
    return found;
  }
}
