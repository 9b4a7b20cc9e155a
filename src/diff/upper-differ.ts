/**
 * The native diff: the changes of an overlay's upper directory, read from that directory alone.
 *
 * Two stacks share the layers: the merged view M = [upper, lowers…] and the base B = lowers…. The walk goes down both at
 * once. Where the upper's directory is merged with just what the base has there, only the names in the upper are visited:
 * everything else is as it was. Where it is not (the directory is new, opaque, or was moved here by a redirect), it is
 * *detached*: all of its merged content is emitted, and the base's directory of that path, if any, is hidden. So the cost is
 * that of the upper and the moved subtrees, whatever lies below.
 *
 * What is dropped though it lies in the upper: copied-up objects that ended up equal to the base; whiteouts of what the base
 * does not have; sockets, which no layer can express; stale redirects. A directory that was copied up only because of a
 * child is emitted as that child's parent, with its metadata.
 *
 * Hard links are grouped by inode of the layer, never by link count: the first name in the stream carries the content. An
 * inode with further names is never dropped as unchanged, since copying up one name of it broke or made links.
 *
 * Errors: failed_precondition (`INEXPRESSIBLE_NAME`) for an object whose name begins with `.wh.`.
 */
import { type ByteString, compareBytes } from "../lib/bytes.ts";
import { lowerMarks } from "../overlayfs/layer-marks.ts";
import { isDirectory, isRegular, LayerStack, type MergedEntry } from "../overlayfs/layer-stack.ts";
import * as C from "../sys/constants.ts";
import { inodeKey, type Stat } from "../sys/syscalls.ts";
import type { Change, ObjectChange, Xattr } from "./change.ts";
import { checkLayerName } from "./layer-names.ts";
import { isHostXattr } from "./layer-xattrs.ts";
import type { UpperSource } from "./source.ts";
import { sameContent } from "./trees-content.ts";

export interface UpperDifferOptions {
  /**
   * Instead of one `opaque` for a replaced directory, compare it with what it replaces and name each deletion. Costs a walk
   * of both; what it gives is what a person wants to read.
   */
  readonly expandOpaque?: boolean;
}

/** A directory on the way down. */
interface Frame {
  readonly merged: MergedEntry;
  /** What the base has here, when it is a directory whose content is compared with. */
  readonly base: MergedEntry | undefined;
  readonly names: readonly ByteString[];
  next: number;
  /** The directory's own entry, not emitted until something below it is. */
  header: ObjectChange | undefined;
}

/** Reads the changes of `source`. One use; the descriptors it holds are closed when the walk ends or is abandoned. */
export class UpperDiffer {
  readonly #source: UpperSource;
  readonly #expandOpaque: boolean;
  readonly #firstNames = new Map<string, ByteString>();
  #merged!: LayerStack;
  #base: LayerStack | undefined;
  /** Directory entries looked at so far. */
  visited = 0;

  constructor(source: UpperSource, options: UpperDifferOptions = {}) {
    this.#source = source;
    this.#expandOpaque = options.expandOpaque ?? false;
  }

  *changes(): Generator<Change> {
    const { upper, lowers } = this.#source;
    using merged = LayerStack.open([upper, ...lowers], this.#source);
    using base = lowers.length === 0 ? undefined : LayerStack.open(lowers, lowerMarks(this.#source));
    this.#merged = merged;
    this.#base = base;
    yield* this.#walk();
  }

  *#walk(): Generator<Change> {
    const root = this.#merged.root;
    const baseRoot = this.#base?.root;
    const frames: Frame[] = [this.#frame(root, baseRoot, undefined)];
    if (this.#rootDiffers(root, baseRoot)) yield this.#object(root, "modified");
    for (;;) {
      const frame = frames.at(-1);
      if (!frame) return;
      const name = frame.names[frame.next++];
      if (name === undefined) {
        frames.pop();
        continue;
      }
      for (const change of this.#child(frame, name, frames)) {
        for (const above of frames) {
          // A frame the child itself opened comes after the child's own entry.
          if (above.header && change.path.startsWith(`${above.header.path}/`)) {
            const { header } = above;
            above.header = undefined;
            yield header;
          }
        }
        yield change;
      }
    }
  }

  /** The changes at one name itself; pushes a frame when there is more below. */
  #child(frame: Frame, name: ByteString, frames: Frame[]): Change[] {
    this.visited++;
    const { merged: directory, base: baseDirectory } = frame;
    const path = directory.path === "" ? name : `${directory.path}/${name}`;
    const entry = this.#merged.lookupIn(directory, name);
    const base = baseDirectory && this.#base?.lookupIn(baseDirectory, name);
    if (!entry || (entry.stat.mode & C.S_IFMT) === C.S_IFSOCK) {
      if (!base) return [];
      checkLayerName(name, path);
      return [{ kind: "deleted", path }];
    }
    if (base && this.#sameObject(entry, base)) return [];
    const kind = base ? "modified" : "added";
    if (!isDirectory(entry.stat)) {
      if (base && this.#unchanged(entry, base)) return [];
      checkLayerName(name, path);
      return [this.#object(entry, kind)];
    }
    checkLayerName(name, path);
    const baseIsDirectory = base !== undefined && isDirectory(base.stat);
    if (baseIsDirectory && (this.#attached(entry, base) || this.#expandOpaque)) {
      const own = this.#object(entry, kind);
      const changed = !this.#sameMetadata(entry, base) || !sameTime(entry.stat, base.stat);
      frames.push(this.#frame(entry, base, changed ? undefined : own));
      return changed ? [own] : [];
    }
    frames.push(this.#frame(entry, undefined, undefined));
    const own = this.#object(entry, kind);
    return baseIsDirectory ? [own, { kind: "opaque", path }] : [own];
  }

  #frame(merged: MergedEntry, base: MergedEntry | undefined, header: ObjectChange | undefined): Frame {
    let names: ByteString[];
    if (base && this.#attached(merged, base)) {
      // Only the upper can differ; what it does not name is the base's.
      const upper = merged.parts[0];
      names = upper?.layer === 0 ? this.#merged.namesOf(upper) : [];
      names.sort(compareBytes);
    } else {
      names = this.#merged.list(merged);
      if (base && this.#base) names = [...new Set([...names, ...this.#base.list(base)])].sort(compareBytes);
    }
    return { merged, base, names, next: 0, header };
  }

  /** True when the directory shows the base's content, changed by the upper at most: same parts below the upper. */
  #attached(merged: MergedEntry, base: MergedEntry): boolean {
    const skip = merged.parts[0]?.layer === 0 ? 1 : 0;
    if (merged.parts.length - skip !== base.parts.length) return false;
    return base.parts.every((part, i) => {
      const own = merged.parts[i + skip];
      return own?.layer === part.layer + 1 && own.path === part.path;
    });
  }

  /** True when both views show the very same object of the same layer, with the same content. */
  #sameObject(entry: MergedEntry, base: MergedEntry): boolean {
    return (
      entry.place.layer === base.place.layer + 1 &&
      entry.place.path === base.place.path &&
      entry.data.layer === base.data.layer + 1 &&
      entry.data.path === base.data.path &&
      (!isDirectory(entry.stat) || this.#attached(entry, base))
    );
  }

  #unchanged(entry: MergedEntry, base: MergedEntry): boolean {
    const a = entry.stat;
    const b = base.stat;
    if (a.nlink > 1 || b.nlink > 1) return false;
    if (!sameTime(a, b) || !this.#sameMetadata(entry, base)) return false;
    if (isRegular(a)) {
      if (a.size !== b.size) return false;
      const sameData = entry.data.layer === base.data.layer + 1 && entry.data.path === base.data.path;
      return sameData || a.size === 0 || this.#sameContent(entry, base);
    }
    if ((a.mode & C.S_IFMT) === C.S_IFLNK) return this.#merged.readlink(entry) === this.#base?.readlink(base);
    return a.rdevMajor === b.rdevMajor && a.rdevMinor === b.rdevMinor;
  }

  #sameMetadata(entry: MergedEntry, base: MergedEntry): boolean {
    const a = entry.stat;
    const b = base.stat;
    if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
    const own = layerXattrs(this.#merged, entry);
    const others = this.#base ? layerXattrs(this.#base, base) : [];
    return (
      own.length === others.length &&
      own.every((xattr, i) => xattr.name === others[i]?.name && Buffer.compare(xattr.value, others[i].value) === 0)
    );
  }

  #sameContent(entry: MergedEntry, base: MergedEntry): boolean {
    if (!this.#base) return false;
    using a = this.#merged.open(entry);
    using b = this.#base.open(base);
    return sameContent(a, b, { a: entry.stat, b: base.stat });
  }

  #rootDiffers(root: MergedEntry, base: MergedEntry | undefined): boolean {
    if (base) return !this.#sameMetadata(root, base);
    const { mode, uid, gid } = root.stat;
    return (mode & 0o7777) !== 0o755 || uid !== 0 || gid !== 0 || layerXattrs(this.#merged, root).length > 0;
  }

  #object(entry: MergedEntry, kind: "added" | "modified"): ObjectChange {
    const { path, stat } = entry;
    const type = stat.mode & C.S_IFMT;
    if (stat.nlink > 1 && type !== C.S_IFDIR) {
      const key = inodeKey(stat);
      const first = this.#firstNames.get(key);
      if (first !== undefined) return { kind, path, stat, xattrs: [], linkTo: first };
      this.#firstNames.set(key, path);
    }
    const xattrs = layerXattrs(this.#merged, entry);
    if (type === C.S_IFLNK) return { kind, path, stat, xattrs, linkTarget: this.#merged.readlink(entry) };
    if (type === C.S_IFREG) return { kind, path, stat, xattrs, open: () => this.#merged.open(entry) };
    return { kind, path, stat, xattrs };
  }
}

/** The attributes of an object that a layer carries, sorted by name. */
function layerXattrs(stack: LayerStack, entry: MergedEntry): readonly Xattr[] {
  return stack.xattrs(entry).filter((xattr) => !isHostXattr(xattr.name));
}

function sameTime(a: Stat, b: Stat): boolean {
  return a.mtimeSec === b.mtimeSec && a.mtimeNsec === b.mtimeNsec;
}
