/**
 * The storage driver contract.
 *
 * A driver keeps layers under its home directory, one a `LayerId`, each made on top of at most one parent. It knows nothing
 * of images, digests or reference counts: the store does, and is the only one who calls a driver to create and remove.
 *
 * A layer's life: the store calls `create(id, parent)`. From then on the layer is *writable*: `mount(id)` gives its root
 * file system, and `applyTarget(id)` says where a layer tar is unpacked. The first layer created on top of it *commits* it:
 * it is read-only for ever, and mounting it gives a read-only file system. `seal(id)` commits without a child. `remove(id)`
 * ends it; only a layer without children is removed, which the store sees to. All names on disk under the home belong to
 * the driver.
 *
 * What is idempotent: `remove` of what is not there, `seal` of what is sealed, disposing a use twice. `create` of an id
 * that exists fails with `already_exists`.
 *
 * What is atomic: `create` leaves the whole layer or nothing (made under a temporary name, or counted only once its record
 * is written); `remove` sets aside first, so no half-removed layer has its old name. A crash leaves at most such leftovers,
 * which `reclaim()` deletes; the store calls it at start, when it holds the lock that says nobody else is starting.
 *
 * Mounts: `mount` may be called for one id by many callers and processes; the file system is unmounted when the last of them
 * disposes. A driver that has to mount a layer to reach its tree at all (zfs, devicemapper) may keep such a mount for the
 * next caller: nobody uses it, `remove` ends it, `rest` ends them all, and one that a crash left `reclaim` ends.
 *
 * The loops that read and write many files do not run here: `view`, `diffSource`, `applyTarget` and `contentSource` answer
 * with plain data that worker threads act on. Each answer is a {@link Use}: what it names can be reached until it is
 * disposed, and on most drivers costs nothing.
 *
 * A native diff is a `DiffSource` that visits less than both trees; what a driver cannot say of itself is derived: a driver
 * whose layers are whole trees says only how to make, reach and drop one (./tree-driver.ts), and the differ of two trees
 * does the rest.
 *
 * Durability is the store's business (one syncfs before it publishes; none for containers where there is `mend`); a driver fsyncs nothing but its own small files. Where
 * layers are file systems of their own, which that syncfs does not reach, `flush` does it.
 * src/testing has the suite that every driver passes on its real backend.
 */
import type { ApplyTarget, ContentSource, DiffSource } from "../diff/source.ts";
import type { ByteString } from "../lib/bytes.ts";

declare const layerIdBrand: unique symbol;
/** The driver's name for a layer: 64 lower-case hexadecimal digits, random. */
export type LayerId = string & { readonly [layerIdBrand]: true };

/** Options of an overlay mount that are always named explicitly, so that module parameters decide nothing. */
export interface OverlayOptions {
  readonly redirectDir: "on" | "follow" | "nofollow" | "off" | undefined;
  readonly metacopy: "on" | "off" | undefined;
  readonly index: "off" | undefined;
  readonly userxattr: boolean;
  /**
   * The mount syncs nothing to disk, neither when programs in it ask for it nor when it is unmounted. For layers that count
   * for nothing until the store has made them durable, such as those of build steps.
   */
  readonly volatile?: boolean;
}

/** Something that can be reached until it is disposed. Disposing twice is harmless. */
export interface Use<T> extends AsyncDisposable {
  readonly value: T;
}

/** How a layer's root file system comes about, as data: whoever mounts it may do so in a mount namespace of his own. */
export type LayerView =
  | {
      readonly kind: "directory";
      readonly path: ByteString;
      readonly readOnly: boolean;
      /**
       * A detached mount of the tree, where the path may lead elsewhere in another mount namespace. To be attached once, by
       * whoever mounts the view; the descriptor belongs to the {@link Use}.
       */
      readonly mountFd?: number;
    }
  | {
      readonly kind: "overlay";
      /** Absolute paths, the uppermost first. */
      readonly lowers: readonly ByteString[];
      readonly upper: ByteString | undefined;
      readonly work: ByteString | undefined;
      readonly options: OverlayOptions;
    };

/** One question put to the host and its answer. */
export interface ProbeResult {
  /** Stable name: `d_type`, `rename_whiteout`, `redirect_dir` ... */
  readonly name: string;
  readonly ok: boolean;
  /** What was tried and what was seen. */
  readonly reason: string;
  /** What to do when the answer is no. */
  readonly remedy?: string;
  /** True when the driver cannot run without it. */
  readonly required: boolean;
}

export interface DriverCapabilities {
  /** The diff visits only what changed. */
  readonly nativeDiff: boolean;
  /** A layer's upper can serve as the next layer's lower without copying. */
  readonly stacks: boolean;
  /** Greatest number of layers in one stack; Infinity where there is no limit. */
  readonly maxDepth: number;
  readonly quota: boolean;
  /** Each layer is a file system, or a subvolume, of its own: whoever walks the home on one file system does not see them. */
  readonly ownFileSystems?: boolean;
}

/** Space a layer takes by itself, without its parents: bytes on disk (512-byte blocks × 512) and inodes, as `du` counts. */
export interface LayerUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

/** A mounted layer; disposing gives this use of it up. */
export interface MountedLayer extends AsyncDisposable {
  /** Absolute path of the root file system. */
  readonly path: ByteString;
  readonly readOnly: boolean;
}

export interface Driver {
  readonly name: string;
  /** Absolute path of the directory the driver owns. */
  readonly home: ByteString;
  readonly capabilities: DriverCapabilities;
  /**
   * The limit, by an option of the driver, of layers that are made to be written to by containers and build steps. The store
   * asks for it where nobody says otherwise. Layers of images have none.
   */
  readonly writableSizeBytes?: number | undefined;

  /** Makes a writable layer on top of `parent` (committing it), or an empty one. Errors: already_exists, not_found (parent). */
  create(id: LayerId, parent: LayerId | undefined, options?: { readonly sizeBytes?: number }): Promise<void>;
  /** Commits a layer: read-only from now on. */
  seal(id: LayerId): Promise<void>;
  exists(id: LayerId): boolean;
  /** All layers under the home. */
  list(): Promise<readonly LayerId[]>;
  /** The parent a layer stands on. Errors: not_found. */
  parentOf(id: LayerId): LayerId | undefined;
  /**
   * Puts a layer on another parent whose tree is equal to its present parent's (same chain ID). The layer must not be
   * mounted. Cheap on every driver that stacks.
   */
  reparent(id: LayerId, parent: LayerId): Promise<void>;

  /** `volatile`: see OverlayOptions; without effect where the kernel or the driver has no such thing. */
  view(id: LayerId, options?: { readonly readOnly?: boolean; readonly volatile?: boolean }): Promise<Use<LayerView>>;
  /**
   * Mounts a layer, or joins its mount. `keep`: the mount outlasts this process and every disposal; `unmountAll` ends it.
   * Errors: failed_precondition when it is mounted in the other mode, or writable in another mount namespace.
   */
  mount(id: LayerId, options?: { readonly readOnly?: boolean; readonly keep?: boolean }): Promise<MountedLayer>;
  /** True when somebody uses a mount of the layer, in whatever process, or one is kept in this mount namespace. */
  inUse(id: LayerId): boolean;
  /** Unmounts whatever is mounted for the layer, also what other processes mounted and left; true when there was something. */
  unmountAll(id: LayerId): Promise<boolean>;
  /** Ends mounts that nobody uses and that were left for the next caller. The store calls it when it closes. */
  rest(): Promise<void>;
  /** Removes a layer without children. Errors: failed_precondition when it is mounted and in use. */
  remove(id: LayerId): Promise<void>;
  /** Deletes what crashed creations and removals left. Returns the number of things deleted. */
  reclaim(): Promise<number>;

  /**
   * Makes layers durable that are whole and are not written to any more. Only where they are not on the home's file system; the
   * store calls it before it publishes them.
   */
  flush?(ids: readonly LayerId[]): Promise<void>;
  /**
   * Gives a writable layer back what a power cut took of what `create(id, parent)` made, the layer itself if need be, and
   * keeps what is in its tree. The store calls it at the first start after a boot, before `reclaim`, and need not flush after
   * `create` where a driver has it; layers with a limit excepted. Idempotent: after a crash in it, the next call does the rest.
   * Answers whether something was missing. Errors: data_loss, not_found (parent).
   */
  mend?(id: LayerId, parent: LayerId | undefined): Promise<boolean>;

  usage(id: LayerId): Promise<LayerUsage>;
  /** Ordered pairs, exactly as `docker info` prints them for this driver. */
  status(): readonly (readonly [string, string])[];
  /** Further facts `lamella info` prints: the overlay options in use and the like. */
  details(): readonly (readonly [string, string])[];

  /** Where the changes of a layer to its parent are found. */
  diffSource(id: LayerId): Promise<Use<DiffSource>>;
  applyTarget(id: LayerId): Promise<Use<ApplyTarget>>;
  contentSource(id: LayerId): Promise<Use<ContentSource>>;
}

/** Makes drivers of one kind. `home` need not exist yet. */
export interface DriverFactory {
  readonly name: string;
  /** Folder of the home that has an entry named after each layer; "" for the home itself. */
  readonly layersFolder: string;
  /** Asks the host whether this driver can run with its data under `home`, with every reason. Leaves nothing behind. */
  probe(home: ByteString): Promise<readonly ProbeResult[]>;
  /** Errors: failed_precondition when a required probe says no, invalid_argument for an unknown option. */
  open(home: ByteString, options: Readonly<Record<string, string>>): Promise<Driver>;
}
