/**
 * The driver fuse-overlay: overlay2's layout (../overlay2/layout.ts), stacked by a process of our own union file system
 * (./own-servers.ts), or of a program that was named, such as fuse-overlayfs (./mount-program.ts). It is for where the
 * kernel's overlayfs cannot go: file systems that it takes no upper directory from, and kernels that let no user namespace
 * mount it.
 *
 * A mount belongs to this process's mount namespace. It is shared by all who use the layer, counted as every mount, and ends
 * with the last of them; threads in other mount namespaces get a detached copy of it. A process whose mount is gone ends, or
 * waits for the next one of this driver, also after this one was killed and `reclaim` has unmounted what it left.
 *
 * fuse-overlayfs marks deletions as it can: by devices and attributes, by files named `.wh.`, or by both. All of them are
 * read (../../overlayfs/layer-marks.ts), in homes where there can be such files (./home-marks.ts). Ours writes redirects and metacopies besides, which fuse-overlayfs does not know: a
 * layer that ours has mounted writable has the file `options` from then on, and no other program mounts it, or what is above
 * it. What it writes may lie in the page cache of its mount for a while; before a mounted
 * layer is read from disk its mount is flushed.
 */
import type { ContentSource, DiffSource } from "../../diff/source.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { flushFileSystem } from "../../fs/flush.ts";
import { isMountPoint } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { LayerMarks } from "../../overlayfs/layer-marks.ts";
import type { DriverCapabilities, LayerId, LayerView, Use } from "../driver.ts";
import { clearVolatile } from "../mount-view.ts";
import { LinkedLayersDriver } from "../overlay2/linked-layers.ts";
import { formatNeeds } from "../overlay2/options.ts";
import { readSmallFile, writeNewFile } from "../small-file.ts";
import type { ViewOptions } from "../stack-driver.ts";
import { mayHaveFileMarks } from "./home-marks.ts";
import type { LayerMounter } from "./layer-mounter.ts";

/** So many layers are tested; the program itself knows no limit. */
const MOST_LAYERS = 500;

export class FuseOverlayDriver extends LinkedLayersDriver {
  readonly name = "fuse-overlay";
  readonly capabilities: DriverCapabilities = { nativeDiff: true, stacks: true, maxDepth: MOST_LAYERS, quota: false };
  readonly #prefix: LayerMarks["prefix"];
  readonly #mounter: LayerMounter;

  /** The home exists with its folders. */
  constructor(home: ByteString, mounter: LayerMounter, options: { readonly userNamespace: boolean }) {
    super(home);
    this.#mounter = mounter;
    this.#prefix = options.userNamespace ? "user.overlay." : "trusted.overlay.";
  }

  /** Another process may have made more of them meanwhile. */
  protected get marks(): LayerMarks {
    const prefix = this.#prefix;
    return mayHaveFileMarks(this.home) ? { prefix, marks: "all" } : { prefix };
  }

  status(): readonly (readonly [string, string])[] {
    return [];
  }

  details(): readonly (readonly [string, string])[] {
    const redirects = String(this.#mounter.redirects);
    return [
      ["Mount Program", this.#mounter.path],
      ["Using redirect_dir", redirects],
      ["Using metacopy", redirects],
    ];
  }

  override async view(id: LayerId, options: ViewOptions = {}): Promise<Use<LayerView>> {
    return this.sharedView(id, options);
  }

  override async diffSource(id: LayerId): Promise<Use<DiffSource>> {
    await this.#flush(id);
    return super.diffSource(id);
  }

  override async contentSource(id: LayerId): Promise<Use<ContentSource>> {
    await this.#flush(id);
    return super.contentSource(id);
  }

  override async rest(): Promise<void> {
    await this.#mounter.rest();
  }

  protected override limit(): void {
    const message = "--storage-opt is not supported for fuse-overlay";
    throw new LamellaError("failed_precondition", "QUOTA_UNSUPPORTED", message, {
      hint: "leave out the size; limit the file system that holds the root instead",
    });
  }

  protected override async layersOf(id: LayerId, options: ViewOptions): Promise<LayerView> {
    const { layout } = this;
    const own = `l/${layout.link(id)}`;
    const lowers = layout.lowerNames(id);
    const readOnly = (options.readOnly ?? false) || layout.isCommitted(id);
    if (lowers.length === 0) return { kind: "directory", path: layout.diff(id), readOnly };
    return {
      kind: "overlay",
      lowers: readOnly ? [own, ...lowers] : lowers,
      upper: readOnly ? undefined : `${id}/diff`,
      work: readOnly ? undefined : `${id}/work`,
      options: {
        redirectDir: undefined,
        metacopy: undefined,
        index: undefined,
        userxattr: false,
        volatile: options.volatile ?? false,
      },
    };
  }

  protected override attach(id: LayerId, view: LayerView, target: ByteString): void {
    if (view.kind === "directory") {
      super.attach(id, view, target);
      return;
    }
    const { lowers, upper, work, options } = view;
    if (this.#mounter.redirects) {
      if (upper !== undefined) this.#noteRedirects(id);
    } else this.#refuseRedirects(id);
    if (work !== undefined) clearVolatile(`${this.home}/${work}`);
    const fileMarks = mayHaveFileMarks(this.home);
    this.#mounter.mount({ lowers, upper, work, volatile: options.volatile ?? false, fileMarks }, target);
  }

  /** Before there can be any. */
  #noteRedirects(id: LayerId): void {
    const path = this.#redirectsFile(id);
    if (readSmallFile(path) === undefined)
      writeNewFile(path, formatNeeds({ redirectDir: true, metacopy: true }), 0o644);
  }

  /** What a program does not understand it would show as empty directories and files of zeros. */
  #refuseRedirects(id: LayerId): void {
    const written = [id, ...this.layout.ancestors(id)].find(
      (each) => readSmallFile(this.#redirectsFile(each)) !== undefined,
    );
    if (written === undefined) return;
    const message = `${this.#mounter.path} does not understand layer ${written}, which Lamella's own union file system has written`;
    throw new LamellaError("failed_precondition", "LAYER_HAS_REDIRECTS", message, {
      hint: "leave the option fuse_overlay.mount_program out, or bring the images to a new root with `lamella migrate`",
    });
  }

  #redirectsFile(id: LayerId): ByteString {
    return `${this.layout.layer(id)}/options`;
  }

  /** Writes out what the mount of a layer still holds. */
  async #flush(id: LayerId): Promise<void> {
    const target = this.mountPointOf(id);
    if (this.inUse(id) && isMountPoint(target)) await flushFileSystem(target);
  }
}
