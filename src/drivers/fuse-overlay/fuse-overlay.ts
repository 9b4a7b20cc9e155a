/**
 * The driver fuse-overlay: overlay2's layout (../overlay2/layout.ts), stacked by a process of the program fuse-overlayfs, or
 * of our own (./mount-program.ts). It is for where the kernel's overlayfs cannot go: file systems that it takes no upper
 * directory from, and kernels that let no user namespace mount it.
 *
 * A mount belongs to this process's mount namespace. It is shared by all who use the layer, counted as every mount, and ends
 * with the last of them; threads in other mount namespaces get a detached copy of it. A process whose mount is gone ends by
 * itself, also after this one was killed and `reclaim` has unmounted what it left.
 *
 * fuse-overlayfs marks deletions as it can: by devices and attributes, by files named `.wh.`, or by both. All of them are
 * read (../../overlayfs/layer-marks.ts). What it writes may lie in the page cache of its mount for a while; before a mounted
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
import type { ViewOptions } from "../stack-driver.ts";
import { type MountProgram, runMountProgram } from "./mount-program.ts";

/** So many layers are tested; the program itself knows no limit. */
const MOST_LAYERS = 500;

export class FuseOverlayDriver extends LinkedLayersDriver {
  readonly name = "fuse-overlay";
  readonly capabilities: DriverCapabilities = { nativeDiff: true, stacks: true, maxDepth: MOST_LAYERS, quota: false };
  protected readonly marks: LayerMarks;
  readonly #program: MountProgram;

  /** The home exists with its folders. */
  constructor(home: ByteString, program: MountProgram, options: { readonly userNamespace: boolean }) {
    super(home);
    this.#program = program;
    this.marks = { prefix: options.userNamespace ? "user.overlay." : "trusted.overlay.", marks: "any" };
  }

  status(): readonly (readonly [string, string])[] {
    return [];
  }

  details(): readonly (readonly [string, string])[] {
    return [["Mount Program", this.#program.path]];
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
    if (work !== undefined) clearVolatile(`${this.home}/${work}`);
    runMountProgram(this.#program, this.home, { lowers, upper, work, volatile: options.volatile ?? false }, target);
  }

  /** Writes out what the mount of a layer still holds. */
  async #flush(id: LayerId): Promise<void> {
    const target = this.mountPointOf(id);
    if (this.inUse(id) && isMountPoint(target)) await flushFileSystem(target);
  }
}
