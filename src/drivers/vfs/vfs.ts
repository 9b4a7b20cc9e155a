/**
 * The driver vfs: every layer a full copy of its parent. It needs nothing of the kernel, costs a copy per layer (none of the
 * data where the file system has reflinks), and is never chosen unasked.
 *
 *     <home>/                  0710
 *       dir/<id>/                     the layer's whole tree
 *       layers/<id>            0644   `parent <id>` for one with a parent, `sealed` once it is read-only; a line each
 *       mnt/<id>/              0700   mount point of a read-only view; only while mounted
 *       dir/.<id>-creating-<hex>/, dir/.<id>-removing-<hex>/   unfinished creations and removals
 *       .lamella/              0700   `lock`, `mounts/`
 *
 * Docker's layout has `dir/` alone. The record is written before the tree gets its name, and a record without a tree counts
 * for nothing: `reclaim` deletes it.
 */
import { randomBytes } from "node:crypto";
import type { ApplyTarget, ContentSource, DiffSource } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { makeDirectory, writeDurably } from "../../fs/durable-file.ts";
import { lockFile, tryLockFile } from "../../fs/locks.ts";
import { readMountInfo } from "../../fs/mountinfo.ts";
import { isMountPoint, umount } from "../../fs/mounts.ts";
import { removeTree } from "../../fs/remove-tree.ts";
import { copyTreeInBackground, removeTreeInBackground, treeUsage } from "../../fs/tree-jobs.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, AT_REMOVEDIR, O_DIRECTORY, O_RDONLY, RENAME_NOREPLACE } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { Driver, DriverCapabilities, LayerId, LayerUsage, LayerView, MountedLayer } from "../driver.ts";
import { isLayerId } from "../layer-id.ts";
import { LayerUses } from "../layer-uses.ts";
import { mountView } from "../mount-view.ts";
import { readSmallFile } from "../small-file.ts";

/** What a removal deletes at once before it hands the rest to a worker thread. */
const INLINE_ENTRIES = 500;

interface LayerFile {
  readonly parent: LayerId | undefined;
  readonly sealed: boolean;
}

export class VfsDriver implements Driver {
  readonly name = "vfs";
  readonly home: ByteString;
  readonly capabilities: DriverCapabilities = {
    nativeDiff: false,
    stacks: false,
    maxDepth: Number.POSITIVE_INFINITY,
    quota: false,
  };
  readonly #uses: LayerUses;

  /** The home exists with its folders; see ./factory.ts. */
  constructor(home: ByteString) {
    this.home = home;
    this.#uses = new LayerUses(`${home}/.lamella/mounts`);
  }

  async create(id: LayerId, parent: LayerId | undefined, options: { sizeBytes?: number } = {}): Promise<void> {
    if (options.sizeBytes !== undefined)
      throw new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", "vfs: layers have no size limit", {
        hint: "leave out the size; limit the file system that holds the root instead",
      });
    if (this.exists(id)) throw exists(id);
    if (parent !== undefined) await this.seal(parent);
    const building = this.#aside(id, "creating");
    // Held while the copy is made, so that `reclaim` leaves it alone; the lock file goes with the creation.
    const guard = `${this.home}/.lamella/creating-${building.slice(building.lastIndexOf("-") + 1)}`;
    using _ = lockFile(guard, "shared");
    try {
      if (parent === undefined) {
        sys.mkdirat(AT_FDCWD, building, 0o755);
        sys.lchmodat(AT_FDCWD, building, 0o755);
      } else await copyTreeInBackground(this.#tree(parent), building);
      using _lock = lockFile(`${this.home}/.lamella/lock`, "shared");
      if (this.exists(id)) throw exists(id);
      this.#write(id, { parent, sealed: false });
      sys.renameat2(AT_FDCWD, building, AT_FDCWD, this.#tree(id), RENAME_NOREPLACE);
    } catch (error) {
      removeTree(building);
      throw hasCode(error, "EEXIST") ? exists(id) : error;
    } finally {
      raw.unlinkat(AT_FDCWD, guard);
    }
  }

  async seal(id: LayerId): Promise<void> {
    const file = this.#read(id);
    if (!file.sealed) this.#write(id, { ...file, sealed: true });
  }

  exists(id: LayerId): boolean {
    return isLayerId(id) && sys.statIfExists(AT_FDCWD, this.#tree(id)) !== undefined;
  }

  async list(): Promise<readonly LayerId[]> {
    return namesOf(`${this.home}/dir`).filter(isLayerId).sort();
  }

  parentOf(id: LayerId): LayerId | undefined {
    return this.#read(id).parent;
  }

  async reparent(id: LayerId, parent: LayerId): Promise<void> {
    await this.seal(parent);
    const file = this.#read(id);
    this.#uses.unused(id, () => this.#write(id, { ...file, parent }, true));
  }

  view(id: LayerId, options: { readonly readOnly?: boolean } = {}): LayerView {
    const readOnly = (options.readOnly ?? false) || this.#read(id).sealed;
    return { kind: "directory", path: this.#tree(id), readOnly };
  }

  /** Where the caller may not mount, a read-only view is the tree itself: nothing stops writes to it but good manners. */
  async mount(
    id: LayerId,
    options: { readonly readOnly?: boolean; readonly keep?: boolean } = {},
  ): Promise<MountedLayer> {
    const view = this.view(id, options);
    const readOnly = view.kind === "directory" && view.readOnly;
    const target = `${this.home}/mnt/${id}`;
    let path = readOnly ? target : this.#tree(id);
    const use = this.#uses.begin(
      id,
      ({ here, kept }) => {
        if (!readOnly) return;
        if (isMountPoint(target)) {
          if (here || kept) return;
          while (umount(target) === "unmounted");
        }
        makeDirectory(target, 0o700);
        try {
          mountView(view, target);
        } catch (error) {
          raw.unlinkat(AT_FDCWD, target, AT_REMOVEDIR);
          if (!hasCode(error, "EPERM")) throw error;
          path = this.#tree(id);
        }
      },
      options,
    );
    let over = false;
    return {
      path,
      readOnly,
      [Symbol.asyncDispose]: async () => {
        if (over) return;
        over = true;
        this.#uses.end(use, () => this.#unmount(id));
      },
    };
  }

  async unmountAll(id: LayerId): Promise<boolean> {
    return this.#uses.forced(id, () => this.#unmount(id));
  }

  async remove(id: LayerId): Promise<void> {
    if (!this.exists(id)) return;
    const aside = this.#aside(id, "removing");
    this.#uses.unused(id, () => {
      this.#unmount(id);
      sys.renameat2(AT_FDCWD, this.#tree(id), AT_FDCWD, aside);
      sys.unlinkIfExists(AT_FDCWD, this.#file(id));
    });
    await this.#delete(aside);
  }

  async reclaim(): Promise<number> {
    const asides: ByteString[] = [];
    let count = 0;
    {
      using _ = lockFile(`${this.home}/.lamella/lock`, "exclusive");
      for (const name of namesOf(`${this.home}/dir`)) {
        const hex = /^\.[0-9a-f]{64}-(?:creating|removing)-([0-9a-f]+)$/.exec(name)?.[1];
        if (hex === undefined) continue;
        const guard = `${this.home}/.lamella/creating-${hex}`;
        using held = tryLockFile(guard, "exclusive");
        if (held === undefined) continue;
        raw.unlinkat(AT_FDCWD, guard);
        asides.push(`${this.home}/dir/${name}`);
      }
      for (const name of namesOf(`${this.home}/.lamella`)) {
        const guard = `${this.home}/.lamella/${name}`;
        if (!name.startsWith("creating-")) continue;
        using held = tryLockFile(guard, "exclusive");
        if (held !== undefined) raw.unlinkat(AT_FDCWD, guard);
      }
      for (const name of namesOf(`${this.home}/layers`)) {
        if (isLayerId(name) && this.exists(name)) continue;
        sys.unlinkIfExists(AT_FDCWD, `${this.home}/layers/${name}`);
        count++;
      }
    }
    const prefix = `${this.home}/mnt/`;
    for (const { mountPoint } of readMountInfo()) {
      const id = mountPoint.startsWith(prefix) ? mountPoint.slice(prefix.length) : "";
      if (!isLayerId(id) || this.#uses.inUse(id)) continue;
      this.#uses.unused(id, () => this.#unmount(id));
      count++;
    }
    for (const aside of asides) await this.#delete(aside);
    return count + asides.length;
  }

  async usage(id: LayerId): Promise<LayerUsage> {
    this.#read(id);
    return treeUsage(this.#tree(id));
  }

  status(): readonly (readonly [string, string])[] {
    return [];
  }

  details(): readonly (readonly [string, string])[] {
    return [];
  }

  diffSource(id: LayerId): DiffSource {
    const { parent } = this.#read(id);
    return { kind: "trees", parent: parent === undefined ? undefined : this.#tree(parent), tree: this.#tree(id) };
  }

  applyTarget(id: LayerId): ApplyTarget {
    return { whiteouts: "remove", root: this.#tree(id), lowers: [], prefix: "trusted.overlay." };
  }

  contentSource(id: LayerId): ContentSource {
    return { layers: [this.#tree(id)], prefix: "trusted.overlay." };
  }

  #tree(id: string): ByteString {
    return `${this.home}/dir/${id}`;
  }

  #file(id: string): ByteString {
    return `${this.home}/layers/${id}`;
  }

  #aside(id: string, what: "creating" | "removing"): ByteString {
    return `${this.home}/dir/.${id}-${what}-${randomBytes(4).toString("hex")}`;
  }

  #read(id: LayerId): LayerFile {
    if (!this.exists(id))
      throw new LamellaError("not_found", "LAYER_NOT_FOUND", `no layer ${id} in ${textOfBytes(this.home)}`);
    const lines = (readSmallFile(this.#file(id)) ?? "").split("\n");
    const parent = lines.find((line) => line.startsWith("parent "))?.slice(7);
    return { parent: parent !== undefined && isLayerId(parent) ? parent : undefined, sealed: lines.includes("sealed") };
  }

  #write(id: LayerId, { parent, sealed }: LayerFile, durable = false): void {
    const lines = [...(parent === undefined ? [] : [`parent ${parent}`]), ...(sealed ? ["sealed"] : [])];
    writeDurably(this.#file(id), lines.map((line) => `${line}\n`).join(""), { durable });
  }

  #unmount(id: LayerId): boolean {
    const target = `${this.home}/mnt/${id}`;
    let any = false;
    while (umount(target) !== "absent") any = true;
    raw.unlinkat(AT_FDCWD, target, AT_REMOVEDIR);
    return any;
  }

  async #delete(path: ByteString): Promise<void> {
    if (!removeTree(path, { maxEntries: INLINE_ENTRIES })) await removeTreeInBackground(path);
  }
}

function namesOf(path: ByteString): string[] {
  using directory = sys.open(path, O_RDONLY | O_DIRECTORY);
  return sys.readdir(directory.fd).map((entry) => entry.name);
}

function exists(id: string): LamellaError {
  return new LamellaError("already_exists", "LAYER_EXISTS", `layer ${id} exists already`);
}
