/**
 * Overlay semantics: what a stack of layers holds at a path, and where each part of it comes from. This is the kernel's
 * lookup (fs/overlayfs/namei.c) and merged readdir (readdir.c) over abstract layers, with every feature understood whatever
 * the mount options of the host: whiteouts (devices 0:0, and empty files with the `whiteout` attribute in directories marked
 * `opaque`="x"), opaque directories, redirects relative and absolute through chains of layers, metacopy chains.
 *
 * Rules that are easy to get wrong:
 * - A child is looked up in the *parts* of its parent, not at its path: a moved directory has its children elsewhere.
 * - The root always merges all layers; an `opaque` on it means nothing.
 * - A relative redirect replaces the last component for the layers further down; an absolute one starts anew at their
 *   roots, and clears a stop that an opaque directory on the way had caused.
 * - A redirect on a regular file counts only together with metacopy; alone it is stale.
 * - Below a metacopy only a regular file can hold the data.
 * - `whiteout` attributes count only in lower layers (index > 0).
 *
 * Layers that hold marks of other union file systems are told by `marks`: ./layer-marks.ts says what these mean.
 */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, compareBytes, textOfBytes } from "../lib/bytes.ts";
import * as C from "../sys/constants.ts";
import type { OwnedFd, Stat } from "../sys/syscalls.ts";
import { DirectoryLayer } from "./directory-layer.ts";
import type { DirectoryPart, Layer, LayerEntry, MergedEntry, Place } from "./layer.ts";
import {
  knowsFileMarks,
  type LayerMarks,
  longestMarked,
  markName,
  opaqueName,
  opaqueXattrs,
  visibleXattr,
} from "./layer-marks.ts";

export type { DirectoryPart, Layer, LayerEntry, MergedEntry, Place } from "./layer.ts";

/** True for a character device 0:0. */
export function isWhiteoutDevice(stat: Stat): boolean {
  return (stat.mode & C.S_IFMT) === C.S_IFCHR && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

export function isDirectory(stat: Stat): boolean {
  return (stat.mode & C.S_IFMT) === C.S_IFDIR;
}

export function isRegular(stat: Stat): boolean {
  return (stat.mode & C.S_IFMT) === C.S_IFREG;
}

function join(directory: ByteString, name: ByteString): ByteString {
  return directory === "" ? name : `${directory}/${name}`;
}

function isMarkName(name: ByteString): boolean {
  return name.startsWith(markName);
}

/** The name that a mark hides. Of AUFS's own marks, none that an object can have. */
function markedBy(name: ByteString): ByteString {
  return name.slice(markName.length);
}

/** True for the root of a layer in which empty files may be whiteouts. */
function isHiding(layer: Layer, prefix: ByteString): boolean {
  return layer.getxattr("", `${prefix}opaque`)?.toString("latin1") === "x";
}

/** The state of one lookup on its way down the layers (`struct ovl_lookup_data`). */
interface Search {
  /** A name relative to the parent's part, or an absolute path from the layers' roots. */
  name: ByteString;
  stop: boolean;
  isDirectory: boolean;
  metacopy: boolean;
}

/** What one layer has for a search. */
interface Found extends DirectoryPart {
  readonly stat: Stat;
}

/** Of all that is no directory. */
const noParts: readonly DirectoryPart[] = [];
const nothingAround = { before: "", after: "" } as const;
const hidesNothing = { below: false, byXattr: false } as const;

export class LayerStack implements Disposable {
  readonly #layers: readonly Layer[];
  /** Of the uppermost layer, and of all others. */
  readonly #upperMarks: LayerMarks;
  readonly #lowerMarks: LayerMarks;
  /** The names of overlay's own attributes. */
  readonly #whiteout: ByteString;
  readonly #metacopy: ByteString;
  readonly #opaque: ByteString;
  readonly #redirect: ByteString;
  /** The root of the merged view. */
  readonly root: MergedEntry;

  /** `layers`: the uppermost first, at least one; owned by the stack from now on. */
  constructor(layers: readonly Layer[], marks: LayerMarks) {
    this.#layers = layers;
    this.#upperMarks = marks.upperMarks === undefined ? marks : { prefix: marks.prefix, marks: marks.upperMarks };
    this.#lowerMarks = marks;
    this.#whiteout = `${marks.prefix}whiteout`;
    this.#metacopy = `${marks.prefix}metacopy`;
    this.#opaque = `${marks.prefix}opaque`;
    this.#redirect = `${marks.prefix}redirect`;
    const parts: DirectoryPart[] = [];
    for (const [index, layer] of layers.entries()) {
      const hides = this.#any(index)
        ? this.#hidingByAnyMark(index, "")
        : { below: false, byXattr: index > 0 && isHiding(layer, marks.prefix) };
      parts.push({ layer: index, path: "", xattrWhiteouts: hides.byXattr });
      if (hides.below) break;
    }
    const stat = layers[0]?.stat("");
    if (!stat) throw new LamellaError("invalid_argument", "NO_LAYERS", "a layer stack needs at least one layer");
    const place = { layer: 0, path: "" };
    this.root = { path: "", stat, place, data: place, parts };
  }

  /** A stack of directories on disk, given by absolute paths, the uppermost first. */
  static open(paths: readonly ByteString[], marks: LayerMarks): LayerStack {
    const layers: Layer[] = [];
    try {
      for (const path of paths) layers.push(new DirectoryLayer(path));
      return new LayerStack(layers, marks);
    } catch (error) {
      for (const layer of layers) layer[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const layer of this.#layers) layer[Symbol.dispose]();
  }

  /** The object at `path` of the merged view, undefined when there is none. No symbolic link is followed. */
  lookup(path: ByteString): MergedEntry | undefined {
    let entry: MergedEntry | undefined = this.root;
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      if (!entry) return undefined;
      entry = this.lookupIn(entry, name);
    }
    return entry;
  }

  /**
   * The child `name` of a merged directory, undefined when there is none or `directory` is not one.
   * Errors: data_loss when a metacopy file has no data below it.
   */
  lookupIn(directory: MergedEntry, name: ByteString): MergedEntry | undefined {
    const search: Search = { name, stop: false, isDirectory: false, metacopy: false };
    let parts: readonly Place[] = directory.parts;
    let first: Found | undefined;
    let data: Found | undefined;
    let merged: DirectoryPart[] | undefined;
    for (let i = 0; !search.stop && i < parts.length; i++) {
      const part = parts[i] as DirectoryPart;
      const absolute = search.name.startsWith("/");
      const found = absolute
        ? this.#findAbsolute(part.layer, search)
        : this.#findIn(part.layer, part.path, search.name, search, true, part.xattrWhiteouts);
      if (found) {
        first ??= found;
        if (search.isDirectory) {
          merged ??= [];
          merged.push({ layer: found.layer, path: found.path, xattrWhiteouts: found.xattrWhiteouts });
        } else if (!search.metacopy) data = found;
      }
      // An absolute redirect goes on at the roots of the layers below, not in the other parts of the parent.
      if (!absolute && search.name.startsWith("/")) {
        parts = this.root.parts;
        i = part.layer;
      }
    }
    if (!first) return undefined;
    const path = join(directory.path, name);
    const place = { layer: first.layer, path: first.path };
    const dataPlace = data === undefined || data === first ? place : { layer: data.layer, path: data.path };
    if (!search.isDirectory && !data) {
      throw new LamellaError(
        "data_loss",
        "METACOPY_WITHOUT_DATA",
        `${textOfBytes(path)}: no lower layer holds its data`,
        {
          hint: "a layer below was changed or removed; import the image again",
        },
      );
    }
    return { path, stat: first.stat, place, data: dataPlace, parts: merged ?? noParts };
  }

  /** The names of a merged directory in byte order. */
  list(directory: MergedEntry): ByteString[] {
    return this.entries(directory)
      .map(({ name }) => name)
      .sort(compareBytes);
  }

  /** The names of a merged directory in no order, as the uppermost layer that has each lists it. */
  entries(directory: Pick<MergedEntry, "parts">): LayerEntry[] {
    const hidden = new Set<ByteString>();
    const seen: LayerEntry[] = [];
    const isMerged = directory.parts.length > 1;
    for (const part of directory.parts) {
      const layer = this.#layer(part.layer);
      const entries = layer.list(part.path);
      if (this.#any(part.layer))
        for (const { name } of entries) if (isMarkName(name)) hidden.add(name).add(markedBy(name));
      for (const { name, type, inoLow, inoHigh } of entries) {
        if (hidden.has(name)) continue;
        if (isMerged) hidden.add(name);
        if (!this.#isWhiteoutName(layer, part, name, type))
          seen.push({ name, type, inoLow, inoHigh, layer: part.layer });
      }
    }
    return seen;
  }

  /** The names that one layer has in a merged directory, or hides there, in no order. */
  namesOf(part: Place): ByteString[] {
    const names = this.#layer(part.layer)
      .list(part.path)
      .map((entry) => entry.name);
    if (!this.#any(part.layer) || !names.some(isMarkName)) return names;
    const meant = names.map((name) => (isMarkName(name) ? markedBy(name) : name));
    return [...new Set(meant)].filter((name) => !isMarkName(name) && !/^\.{0,2}$/.test(name));
  }

  /** lstat in one layer, with no meaning given to what is found. */
  statPlace(place: Place): Stat | undefined {
    return this.#layer(place.layer).stat(place.path);
  }

  readlink(entry: MergedEntry): ByteString {
    return this.#layer(entry.place.layer).readlink(entry.place.path);
  }

  /** The attributes of an object as the mount shows them (overlay's own left out, escaped ones unescaped), sorted by name. */
  xattrs(entry: MergedEntry): { readonly name: ByteString; readonly value: Buffer }[] {
    const layer = this.#layer(entry.place.layer);
    const list: { name: ByteString; value: Buffer }[] = [];
    for (const stored of layer.listxattr(entry.place.path)) {
      const name = visibleXattr(stored, this.#marksOf(entry.place.layer));
      if (name === undefined) continue;
      const value = layer.getxattr(entry.place.path, stored);
      if (value) list.push({ name, value });
    }
    return list.length > 1 ? list.sort((a, b) => compareBytes(a.name, b.name)) : list;
  }

  /** Opens the content of a regular file, in whichever layer holds it. */
  open(entry: MergedEntry): OwnedFd {
    return this.#layer(entry.data.layer).open(entry.data.path);
  }

  #marksOf(layer: number): LayerMarks {
    return layer === 0 ? this.#upperMarks : this.#lowerMarks;
  }

  /** True for a layer where marks of every union file system count. */
  #any(layer: number): boolean {
    return knowsFileMarks(this.#marksOf(layer).marks);
  }

  /** True for a layer that may hold redirects and metacopies. */
  #redirects(layer: number): boolean {
    return this.#marksOf(layer).marks !== "any";
  }

  #layer(index: number): Layer {
    const layer = this.#layers[index];
    if (!layer) throw new LamellaError("internal", "NO_SUCH_LAYER", `layer ${index} of ${this.#layers.length}`);
    return layer;
  }

  #isWhiteoutName(layer: Layer, part: DirectoryPart, name: ByteString, type: number): boolean {
    const mayBeDevice = type === C.DT_CHR || type === C.DT_UNKNOWN;
    const mayBeFile = part.xattrWhiteouts && (type === C.DT_REG || type === C.DT_UNKNOWN);
    if (!mayBeDevice && !mayBeFile) return false;
    const path = join(part.path, name);
    const stat = layer.stat(path);
    return stat !== undefined && this.#isWhiteout(layer, path, stat, part.xattrWhiteouts);
  }

  #isWhiteout(layer: Layer, path: ByteString, stat: Stat, xattrWhiteouts: boolean): boolean {
    if (isWhiteoutDevice(stat)) return true;
    return xattrWhiteouts && isRegular(stat) && stat.size === 0 && layer.getxattr(path, this.#whiteout) !== undefined;
  }

  /** Follows an absolute name from a layer's root, component by component (`ovl_lookup_layer`). */
  #findAbsolute(index: number, search: Search): Found | undefined {
    let at: Found | undefined;
    let directory = "";
    let xattrWhiteouts = (this.root.parts[index] as DirectoryPart).xattrWhiteouts;
    // What is still to be walked stays the same when a redirect on the way rewrites what lies before it.
    const components = search.name.slice(1).split("/");
    for (let i = 0; i < components.length; i++) {
      const last = i === components.length - 1;
      const before = `/${components.slice(0, i).join("/")}`;
      const after = last ? "" : `/${components.slice(i + 1).join("/")}`;
      at = this.#findIn(index, directory, components[i] as ByteString, search, last, xattrWhiteouts, { before, after });
      if (!at || (!last && !isDirectory(at.stat))) return last ? at : undefined;
      directory = at.path;
      xattrWhiteouts = at.xattrWhiteouts;
    }
    return at;
  }

  /** Looks one name up in one directory of one layer and notes what it means for the layers below (`ovl_lookup_single`). */
  #findIn(
    index: number,
    directory: ByteString,
    name: ByteString,
    search: Search,
    last: boolean,
    xattrWhiteouts: boolean,
    around: { readonly before: ByteString; readonly after: ByteString } = nothingAround,
  ): Found | undefined {
    const layer = this.#layer(index);
    const path = join(directory, name);
    if (this.#any(index) && this.#isHiddenByName(layer, directory, name)) {
      search.stop = true;
      return undefined;
    }
    const stat = layer.stat(path);
    if (!stat) return undefined;
    if (this.#isWhiteout(layer, path, stat, xattrWhiteouts)) {
      search.stop = true;
      return undefined;
    }
    if (last && search.metacopy && !isRegular(stat)) {
      search.stop = true;
      return undefined;
    }
    const bottom = index === this.#layers.length - 1;
    if (!isDirectory(stat)) {
      if (search.isDirectory || !last) {
        search.stop = true;
        return undefined;
      }
      search.metacopy = isRegular(stat) && this.#redirects(index) && layer.getxattr(path, this.#metacopy) !== undefined;
      search.stop = !search.metacopy;
      if (search.metacopy && !bottom) this.#followRedirect(layer, path, search, around);
      return { layer: index, path, stat, xattrWhiteouts: false };
    }
    if (last) search.isDirectory = true;
    const hides = this.#hiding(index, path, bottom);
    if (hides.below) search.stop = true;
    else if (!bottom && this.#redirects(index)) this.#followRedirect(layer, path, search, around);
    return { layer: index, path, stat, xattrWhiteouts: hides.byXattr };
  }

  #isHiddenByName(layer: Layer, directory: ByteString, name: ByteString): boolean {
    if (isMarkName(name)) return true;
    return name.length <= longestMarked && layer.stat(join(directory, markName + name)) !== undefined;
  }

  /** What a directory hides: all that lies below it, and names of which it has empty files with an attribute. */
  #hiding(index: number, path: ByteString, bottom: boolean): { readonly below: boolean; readonly byXattr: boolean } {
    if (this.#any(index)) return this.#hidingByAnyMark(index, path);
    if (bottom) return hidesNothing;
    const opaque = this.#layer(index).getxattr(path, this.#opaque)?.toString("latin1");
    return { below: opaque === "y", byXattr: index > 0 && opaque === "x" };
  }

  #hidingByAnyMark(index: number, path: ByteString): { readonly below: boolean; readonly byXattr: boolean } {
    const layer = this.#layer(index);
    let below = false;
    let byXattr = false;
    for (const name of opaqueXattrs(this.#marksOf(index))) {
      const value = layer.getxattr(path, name)?.toString("latin1");
      if (value === "y") below = true;
      else if (value === "x") byXattr = true;
    }
    return { below: below || layer.stat(join(path, opaqueName)) !== undefined, byXattr };
  }

  /** Changes what is searched for further down when the object carries a redirect (`ovl_check_redirect`). */
  #followRedirect(
    layer: Layer,
    path: ByteString,
    search: Search,
    around: { readonly before: ByteString; readonly after: ByteString },
  ): void {
    const redirect = layer.getxattr(path, this.#redirect)?.toString("latin1");
    if (redirect === undefined || redirect === "") return;
    if (redirect.startsWith("/")) {
      search.stop = false;
      search.name = redirect + around.after;
    } else {
      search.name =
        around.before === "" ? redirect : `${around.before === "/" ? "" : around.before}/${redirect}${around.after}`;
    }
  }
}
